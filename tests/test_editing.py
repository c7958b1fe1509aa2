"Inpainting and SDEdit: what is known stays, the rest has the exact distribution, bad input is refused."
import numpy as np
import pytest
import torch

from slowddim.cli import main
from slowddim.core import image_generators
from slowddim.ddim import ddim_sample
from slowddim.distances import moments
from slowddim.editing import HALVES, _back, edit_batches, half_mask, inpaint, sdedit
from slowddim.guidance import guided
from slowddim.noising import add_noise
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.pretrained import save_pretrained
from slowddim.steps import move
from slowddim.unet import UNet


def seeded(seed=0): return torch.Generator().manual_seed(seed)


def correlated(schedule, mean, cov): # the oracle of a Gaussian whose pixels depend on each other
    values, turn = torch.linalg.eigh(cov)
    oracle = GaussianOracle(schedule, mean @ turn, values.sqrt())
    return lambda x, t: (oracle(x.flatten(1) @ turn, t) @ turn.T).reshape(x.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver, eta", [("ddim", 0.), ("ddim", 1.), ("ddpm", 0.), ("heun", 0.)])
def test_known_pixels_stay_bit_for_bit(schedule, solver, eta, dtype):
    x = torch.randn(3, 2, 5, 4, generator=seeded(), dtype=dtype)
    known = torch.rand(3, 1, 5, 4, generator=seeded(1)) < 0.5
    before = x.clone()
    filled = inpaint(GaussianOracle(schedule, 0.1, 0.5), x, known, schedule, 4, solver=solver, eta=eta,
                     generator=seeded(2))
    known = known.expand_as(x)
    assert torch.equal(filled[known], x[known]) and torch.equal(x, before)
    assert (filled[~known] != x[~known]).all() and filled.dtype == dtype


def test_two_pixels_of_a_gaussian_reach_the_exact_conditional(schedule):
    "The unknown pixel's mean is rho times the known one's value, its variance 1 - rho^2 (times std^2)."
    rho, std = 0.8, 0.5
    cov = std**2*torch.tensor([[1., rho], [rho, 1.]]).double()
    oracle, known = correlated(schedule, torch.zeros(2).double(), cov), torch.tensor([True, False])
    x = torch.tensor([0.8, 0.]).double().expand(1500, 1, 1, 2)
    off = {}
    for r in (0, 8):
        filled = inpaint(oracle, x, known, schedule, 25, resample=r, solver="heun", generator=seeded())
        mean, spread = moments(filled[:, 0, :, 1])
        off[r] = abs(mean.item() - rho*0.8), abs(spread.item() - std**2*(1 - rho**2))
    assert off[0][0] > 0.1 and off[8][0] < off[0][0]/2 and off[8][1] < off[0][1]/2, off


def test_going_back_undoes_a_move_in_distribution(schedule):
    "From noisy at p to noisy at t: the mixture that `add_noise` makes, whatever the prediction was."
    x_0 = torch.full((20_000, 1), 0.7).double()
    x_p = add_noise(x_0, torch.randn(20_000, 1, generator=seeded(), dtype=torch.float64), 99, schedule)
    for prediction in (torch.zeros_like(x_p), torch.full_like(x_p, 3.)):
        z = torch.randn(20_000, 1, generator=seeded(1), dtype=torch.float64)
        x_t = move(prediction, x_p, _back(99, 499, schedule), noise=z)[0]
        ab = schedule.at(499)
        assert x_t.mean().item() == pytest.approx(ab**0.5*0.7, abs=0.02)
        assert x_t.var().item() == pytest.approx(1 - ab, rel=0.03)


def test_inpainting_takes_guided_models_and_batches(schedule):
    model = MixtureOracle(schedule, [[[[-0.5, -0.5]]], [[[0.5, 0.5]]]], std=0.05)
    x, known = torch.zeros(6, 1, 1, 2), torch.zeros(2, dtype=torch.bool)
    labels = torch.tensor([0, 1]*3)
    filled = inpaint(guided(model, labels), x, known, schedule, 20, generator=seeded())
    assert (filled.mean((1, 2, 3)).sign() == 2*labels - 1).all()

    def edit(part, own):
        return inpaint(guided(model, labels[part]), x[part], known, schedule, 5, eta=1., generator=own)
    assert torch.allclose(edit_batches(edit, 6, seed=3, batch_size=4), edit_batches(edit, 6, seed=3), atol=1e-6)
    assert not torch.equal(edit_batches(edit, 6, seed=3), edit_batches(edit, 6, seed=4))


def test_networks_and_the_global_stream_are_left_alone(schedule):
    net, x = UNet(sample_size=8, widths=(32,), patch_size=2).train(), torch.zeros(2, 1, 8, 8)
    state = torch.get_rng_state()
    inpaint(net, x, half_mask("left", 8, 8), schedule, 2, generator=seeded())
    sdedit(net, x, schedule, 0.5, 2, generator=seeded())
    assert net.training and all(p.training for p in net.modules()) and torch.equal(state, torch.get_rng_state())


def test_halves():
    for half in HALVES:
        known = half_mask(half, 4, 6)
        assert known.shape == (4, 6) and known.sum() == 12
    assert half_mask("left", 2, 2).tolist() == [[False, True]]*2
    assert half_mask("bottom", 2, 2).tolist() == [[True, True], [False, False]]


def test_the_last_move_is_not_repeated(schedule):
    counted = CallCounter(GaussianOracle(schedule))
    inpaint(counted, torch.zeros(1, 1, 2, 2), torch.zeros(2, 2, dtype=torch.bool), schedule, [500, 100], resample=3)
    assert counted.ts == [500]*4 + [100]


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_sdedit_follows_the_exact_flow(schedule, strength):
    oracle, t = GaussianOracle(schedule, 0.2, 0.3), round(1000*strength) - 1
    x = 0.2 + 0.3*torch.randn(50, 1, 2, 2, generator=seeded(), dtype=torch.float64)
    z = torch.randn(50, 1, 2, 2, generator=seeded(1), dtype=torch.float64)
    exact = gaussian_flow(oracle, add_noise(x, z, t, schedule), t)
    found = sdedit(oracle, x, schedule, strength, 300, solver="dpmpp_2m", generator=seeded(1))
    assert (found - exact).abs().max() < 0.01


def test_the_ends_of_sdedit(schedule):
    oracle, x = GaussianOracle(schedule, 0.2, 0.3), torch.randn(2, 1, 4, 4, generator=seeded())
    assert torch.equal(sdedit(oracle, x, schedule, 0), x)
    noise = torch.randn(2, 1, 4, 4, generator=seeded(1))
    for spacing in ("trailing", "leading"):
        full = sdedit(oracle, x, schedule, 1, 7, spacing=spacing, generator=seeded(1))
        assert torch.equal(full, ddim_sample(oracle, noise, schedule, 7, spacing=spacing))
    own = image_generators(0, 0, 2)
    assert torch.equal(sdedit(oracle, x, schedule, 0.3, 5, generator=own)[1:],
                       sdedit(oracle, x[1:], schedule, 0.3, 5, generator=image_generators(0, 1, 1)))


BAD = dict(
    memory=(lambda m, x, s: inpaint(m, x, half_mask("left", 4, 4), s, solver="ab2"), ValueError, "multistep"),
    mask=(lambda m, x, s: inpaint(m, x, torch.ones(4, 4), s), TypeError, "bool tensor"),
    shape=(lambda m, x, s: inpaint(m, x, half_mask("left", 3, 4), s), ValueError, "broadcast to x_0"),
    repeat=(lambda m, x, s: inpaint(m, x, half_mask("left", 4, 4), s, resample=1.5), TypeError, "resample"),
    solver=(lambda m, x, s: sdedit(m, x, s, 0.5, solver="rk4"), ValueError, "'heun'"),
    strength=(lambda m, x, s: sdedit(m, x, s, -0.1), ValueError, "strength must be"),
    nan=(lambda m, x, s: sdedit(m, x*float("nan"), s, 0.5), ValueError, "x_0 holds"),
    half=(lambda m, x, s: half_mask("middle", 4, 4), ValueError, "'bottom'"),
)


@pytest.mark.parametrize("call, kind, message", BAD.values(), ids=BAD)
def test_bad_input_is_refused_before_the_network_is_evaluated(schedule, call, kind, message):
    counted = CallCounter(GaussianOracle(schedule))
    with pytest.raises(kind, match=message): call(counted, torch.zeros(2, 1, 4, 4), schedule)
    assert counted.n_calls == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory, schedule):
    folder = tmp_path_factory.mktemp("editing")
    torch.manual_seed(0)
    net = UNet(sample_size=32, widths=(32,), patch_size=4, image_size=28)
    save_pretrained(net, schedule, folder/"tiny", dict(data="fashion_mnist"))
    pixels = torch.randint(0, 256, (3, 28, 28, 1), generator=seeded(), dtype=torch.uint8)
    np.savez(folder/"some.npz", arr_0=pixels.numpy())
    return folder


def run(place, *words):
    files = [str(place/w) if w in ("tiny", "some.npz", "mask.png", "out.npz", "out.png") else w for w in words]
    return main([*files, "--quiet"])


def test_repair_keeps_the_known_half(place):
    from PIL import Image
    assert run(place, "repair", "some.npz", "--model", "tiny", "--mask", "top", "--tries", "2", "--steps", "2", "--out",
               "out.npz") == 0
    made, before = (np.load(place/"out.npz")[k] for k in ("arr_0", "before"))
    assert made.shape == (6, 28, 28, 1) and np.array_equal(before, np.load(place/"some.npz")["arr_0"])
    assert all(np.array_equal(made[3*i:3*i + 3, 14:], before[:, 14:]) for i in (0, 1))
    assert not np.array_equal(made[:3, :14], made[3:, :14])
    hole = np.zeros((28, 28), np.uint8)
    hole[5:9, 5:9] = 255
    Image.fromarray(hole).save(place/"mask.png")
    assert run(place, "repair", "some.npz", "--model", "tiny", "--mask", "mask.png", "--steps", "2", "--out",
               "out.npz") == 0
    same = np.load(place/"out.npz")["arr_0"] == before
    assert same[:, hole == 0].all() and not same[:, hole > 0].all()


def test_restyle_at_strength_0_returns_the_images(place):
    assert run(place, "restyle", "some.npz", "--model", "tiny", "--strength", "0", "1", "--steps", "2", "--out",
               "out.npz") == 0
    made, before = (np.load(place/"out.npz")[k] for k in ("arr_0", "before"))
    assert np.array_equal(made[:3], before) and not np.array_equal(made[3:], before)


@pytest.mark.parametrize("line, message", [
    ("repair some.npz --model tiny --mask middle", "--mask must be one of 'left'"),
    ("repair some.npz --model tiny --solver dpmpp_2m", "--solver must not be a multistep one"),
    ("repair some.npz --model tiny --label boot", "knows no labels"),
    ("repair some.npz --model tiny --resample -1", "--resample must be at least 0"),
    ("repair some.npz --model tiny --n 4", "--n (number of images) must be in [1, 3]"),
    ("restyle some.npz --model tiny --strength 1.5", "--strength must be a finite number in [0, 1]"),
    ("restyle some.npz --model tiny --out x.jpg", "--out must end in .png or .npz"),
    ("restyle nowhere.npz --model tiny", "nowhere.npz"),
])
def test_commands_refuse_in_one_line(place, capsys, line, message):
    assert run(place, *line.split()) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1, said

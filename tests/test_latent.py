"Codes: the inverse is exact when it says so, great circles stay on their sphere, and bad input is refused."
import pytest
import torch
from diffusers import DDIMInverseScheduler

from slowddim.ddim import ddim_sample
from slowddim.latent import across_steps, corner_grid, decode, encode, encode_steps, encode_trajectory, interpolate
from slowddim.latent import interpolate_images, reconstruct, reconstruction_error, slerp
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle
from slowddim.schedule import SPACINGS, cosine_schedule, subsequence
from slowddim.steps import arrival, run_steps


@pytest.fixture
def images(): return torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)*0.25 + 0.3


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("S", [10, 13, 50])
def test_corrected_to_the_end_the_inverse_is_exact(schedule, images, spacing, S):
    model = GaussianOracle(schedule, 0.3, 0.25)
    again = reconstruct(model, images, schedule, S, refine=60, spacing=spacing)
    assert (again - images).abs().max() < 1e-6


def test_target_guess_is_diffusers_inverse_scheduler(schedule):
    theirs = DDIMInverseScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, clip_sample=False,
                                  set_alpha_to_one=True, timestep_spacing="leading")
    theirs.set_timesteps(50)
    model = MixtureOracle(schedule, [[[[-0.6]]], [[[0.5]]]], 0.15)
    x_0 = torch.linspace(-1, 1, 11).double().reshape(11, 1, 1, 1)
    x = x_0
    for t in theirs.timesteps: x = theirs.step(model(x, t.expand(len(x))), t, x).prev_sample
    path = [-1, *theirs.timesteps.tolist()]
    ours = arrival(run_steps(model, x_0, encode_steps(path, schedule, guess="target")))
    assert (ours - x).abs().max() < 2e-5 # their tables are float32


GUESSED = [("paper", 0, 20), ("target", 0, 20), ("paper", 2, 60), ("last", 1, 21), ("last", 3, 61)]


@pytest.mark.parametrize("guess, refine, calls", GUESSED)
def test_calls_times_and_dtype(schedule, images, guess, refine, calls):
    model = CallCounter(GaussianOracle(schedule, 0.3, 0.25))
    states = list(encode_trajectory(model, images.float(), schedule, 20, guess=guess, refine=refine))
    assert model.n_calls == calls and states[-1].x_prev.dtype == torch.float32
    arrived = list(dict.fromkeys(s.t_prev for s in states))
    assert arrived == subsequence(1000, 20)[::-1] and min(model.ts) >= 0


def test_explicit_times_and_other_schedules(images):
    schedule = cosine_schedule(100)
    model = GaussianOracle(schedule, 0.3, 0.25)
    times = [99, 70, 40, 20, 10, 5, 2, 0]
    assert (reconstruct(model, images, schedule, times, refine=30) - images).abs().max() < 0.05
    assert torch.equal(decode(model, images, schedule, times), ddim_sample(model, images, schedule, times))


def test_error_is_mse_on_unit_pixels_and_independent_of_batches(schedule, images):
    model = GaussianOracle(schedule, 0.3, 0.25)
    whole = reconstruction_error(model, images, schedule, 10, per_image=True)
    parts = reconstruction_error(model, images, schedule, 10, per_image=True, batch_size=3)
    again = reconstruct(model, images, schedule, 10)
    by_hand = (((again + 1)/2 - (images + 1)/2)**2).mean((1, 2, 3))
    assert torch.allclose(whole, by_hand, rtol=1e-9) and torch.allclose(whole, parts, rtol=1e-9)
    assert reconstruction_error(model, images, schedule, 10) == pytest.approx(by_hand.mean().item())


def test_a_padded_models_border_does_not_count(schedule):
    class Padded(GaussianOracle): config = type("Config", (), dict(image_size=2))()
    x = torch.full((2, 1, 4, 4), 0.3, dtype=torch.float64)
    x[:, :, 0] = 5. # far outside: large errors, in the border only
    inside = reconstruction_error(Padded(schedule, 0.3, 0.25), x, schedule, 5)
    assert inside < reconstruction_error(GaussianOracle(schedule, 0.3, 0.25), x, schedule, 5)/10


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("w", [0., 1e-12, 0.25, 0.5, 1 - 1e-12, 1.])
def test_slerp_never_gives_nan_and_keeps_norms(dtype, w):
    g = torch.Generator().manual_seed(1)
    a = torch.randn(8, 1, 32, 32, generator=g).to(dtype)
    b = torch.randn(8, 1, 32, 32, generator=g).to(dtype)
    b[0], b[1], b[2], b[3], b[4] = a[0], -a[1], 3*a[2], 0*a[3], a[4]*(1 + 1e-6)
    out = slerp(a, b, w)
    assert out.isfinite().all() and out.dtype == dtype and out.shape == a.shape
    norm_a, norm_b, norm = (x.double().flatten(1).norm(dim=1) for x in (a, b, out))
    assert ((norm - (1 - w)*norm_a - w*norm_b).abs() <= (1e-5 if dtype != torch.float16 else 1e-3)*(1 + norm_a)).all()
    if w in (0., 1.): assert torch.equal(out, b if w else a)


def test_slerp_is_per_image_and_even(schedule):
    g = torch.Generator().manual_seed(2)
    a, b = (torch.randn(5, 1, 6, 6, generator=g, dtype=torch.float64) for _ in range(2))
    w = torch.tensor([0., 0.2, 0.5, 0.9, 1.])
    whole = slerp(a, b, w)
    for i in range(5): assert torch.allclose(whole[i:i + 1], slerp(a[i:i + 1], b[i:i + 1], w[i].item()), atol=1e-14)
    walk_ = interpolate(a, b, 11).flatten(2)
    unit = walk_/walk_.norm(dim=2, keepdim=True)
    angles = (unit[1:]*unit[:-1]).sum(2).acos()
    assert torch.allclose(angles, angles[:1].expand_as(angles), atol=1e-7)
    one = torch.ones(1, 1, 1, 1)
    assert slerp(one, -one, 0.5).isfinite().all() # a single number has no circle to walk on


def test_walks_begin_and_end_exactly(schedule, images):
    model = GaussianOracle(schedule, 0.3, 0.25)
    codes = interpolate(images[:2], images[2:4], 5)
    assert codes.shape == (5, 2, 3, 4, 5) and torch.equal(codes[0], images[:2]) and torch.equal(codes[-1], images[2:4])
    decoded = decode(model, codes.flatten(0, 1), schedule, 10).unflatten(0, (5, 2))
    assert torch.equal(decoded[0], decode(model, images[:2], schedule, 10))
    assert torch.equal(decoded[-1], decode(model, images[2:4], schedule, 10))
    walk_ = interpolate_images(model, images[:2], images[2:4], schedule, 3, 50, refine=4, guess="paper")
    assert (walk_[0] - images[:2]).abs().max() < 1e-4 and (walk_[-1] - images[2:4]).abs().max() < 1e-4
    assert corner_grid(images[:4], 2, 3).shape == (6, 3, 4, 5)


def test_no_dice_agree_and_dice_do_not(schedule):
    model = MixtureOracle(schedule, [[[[-0.6]]], [[[0.5]]]], 0.15)
    x_T = torch.randn(300, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gap = {eta: (torch.stack(across_steps(model, x_T, schedule, (20, 200), eta=eta)).diff(dim=0)).abs().mean()
           for eta in (0., 1.)}
    assert gap[0.] < gap[1.]/5


@pytest.mark.parametrize("call, message", [
    (lambda m, x, s: encode(m, x, s, guess="best"), "'target'"),
    (lambda m, x, s: encode(m, x, s, refine=-1), "refine must be at least 0"),
    (lambda m, x, s: encode(m, x, s, guess="last"), "at least 1, got 0"),
    (lambda m, x, s: encode(m, x, s, 1001), "1, 1000"),
    (lambda m, x, s: slerp(x, x, 1.5), "0, 1"),
    (lambda m, x, s: slerp(x, x[:1], 0.5), "shape"),
    (lambda m, x, s: slerp(x, x, float("nan")), "0, 1"),
    (lambda m, x, s: interpolate(x, x, 1), "n must be at least 2"),
    (lambda m, x, s: corner_grid(x), "4 latents, got 7"),
    (lambda m, x, s: reconstruction_error(m, x, s, batch_size=0), "batch_size must be at least 1"),
])
def test_bad_input_costs_no_call(schedule, images, call, message):
    model = CallCounter(GaussianOracle(schedule))
    with pytest.raises(ValueError, match=message): call(model, images, schedule)
    assert model.n_calls == 0

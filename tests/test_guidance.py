"Labels and guidance: exact for every sampler and scheduler, and any network that knows labels."
import copy
import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel

from slowddim.core import append_dims, model_device, model_shape
from slowddim.ddim import ddim_sample
from slowddim.generate import sample_images
from slowddim.guidance import Guided, as_labels, guided, label_info, spread_labels
from slowddim.latent import decode, encode
from slowddim.continuous import AnglePredictor
from slowddim.noising import NoisePredictor, from_eps
from slowddim.ode import log_likelihood
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle
from slowddim.schedulers import DiffusersStyleDDIM, DiffusersStyleDDPM, diffusers_sample

MEANS, STD = torch.tensor([-0.8, 0.1, 0.9], dtype=torch.float64).reshape(3, 1, 1, 1), 0.25


@pytest.fixture
def mixture(schedule): return MixtureOracle(schedule, MEANS, STD, class_names=["shoe", "shirt", "coat"])


class TwoGaussians:
    "Label 0 is N(0.4, STD^2), and without a label the data is N(-0.3, STD^2)."
    null_class = 1
    config = SimpleNamespace(num_class_embeds=1, class_names=None, in_channels=1, sample_size=3, image_size=None)

    def __init__(self, schedule): self.schedule = schedule

    def __call__(self, x, t, class_labels=None):
        null, label = (GaussianOracle(self.schedule, mean, STD)(x, t) for mean in (-0.3, 0.4))
        return null if class_labels is None else torch.where(append_dims(class_labels == 1, x.ndim), null, label)

    def known(self, scale): return GaussianOracle(self.schedule, -0.3 + scale*0.7, STD)


@pytest.fixture
def two(schedule): return TwoGaussians(schedule)


def unet(**config): # a small conditional network of diffusers
    torch.manual_seed(0)
    net = UNet2DModel(sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), norm_num_groups=4,
                      down_block_types=("DownBlock2D",)*2, up_block_types=("UpBlock2D",)*2, num_class_embeds=4).eval()
    net.register_to_config(**config)
    return net


def scheduler_loop(sched, model, x, eta): # in float64; diffusers_sample starts in float32
    g = torch.Generator().manual_seed(3)
    for t in sched.timesteps:
        how = dict(generator=g) if eta is None else dict(generator=g, eta=eta)
        x = sched.step(model(x, t), t, x, **how).prev_sample
    return x


@pytest.mark.parametrize("make, eta", [(DiffusersStyleDDIM, 0.), (DiffusersStyleDDIM, 1.), (DiffusersStyleDDPM, None),
                                       (lambda: DDIMScheduler(clip_sample=False), 0.)],
                         ids=["ddim-0", "ddim-1", "ddpm", "theirs"])
def test_schedulers_see_a_plain_model(make, eta, mixture, two, schedule):
    def model_of(oracle): return lambda x, t: oracle(x, t.expand(len(x)))
    sched, x_T = make(), torch.randn(5, 1, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sched.set_timesteps(12)
    own = two if schedule.n_steps == 1000 and torch.allclose(schedule.alpha_bar.float(), sched.alphas_cumprod) else None
    assert own is not None
    for scale in (0, 1, 2, 5.5):
        known = scheduler_loop(sched, model_of(two.known(scale)), x_T, eta)
        assert (scheduler_loop(sched, guided(two, 0, scale), x_T, eta) - known).abs().max() < 1e-12
    ends = scheduler_loop(sched, model_of(mixture), x_T, eta), scheduler_loop(sched, model_of(
        GaussianOracle(schedule, 0.9, STD)), x_T, eta)
    for scale, end in enumerate(ends):
        assert (scheduler_loop(sched, guided(mixture, "coat", scale), x_T, eta) - end).abs().max() < 1e-12
    assert (ends[0] - ends[1]).abs().max() > 0.1


@pytest.mark.parametrize("eta", [0., 1.])
def test_diffusers_sample_takes_it(eta, mixture, schedule):
    sched = DiffusersStyleDDIM()
    sched.set_timesteps(10)
    how = dict(sz=(4, 1, 2, 2), seed=0, eta=eta, progress=False)
    plain = diffusers_sample(sched, model=mixture, **how)
    alone = diffusers_sample(sched, model=GaussianOracle(schedule, 0.1, STD), **how)
    assert torch.equal(diffusers_sample(sched, model=guided(mixture, "shirt", 0), **how), plain)
    assert torch.equal(diffusers_sample(sched, model=guided(mixture, "shirt", 1), **how), alone)
    assert not torch.equal(plain, alone)


def test_guided_round_trips_and_likelihoods(two, schedule):
    x_0 = torch.linspace(-0.5, 1.5, 6, dtype=torch.float64).reshape(6, 1, 1, 1)
    for scale in (0, 1, 3):
        model, known = guided(two, 0, scale), two.known(scale)
        x_T = encode(model, x_0, schedule, 20, refine=1)
        assert (x_T - encode(known, x_0, schedule, 20, refine=1)).abs().max() < 1e-12
        assert (decode(model, x_T, schedule, 20) - decode(known, x_T, schedule, 20)).abs().max() < 1e-12
        found, exact = (log_likelihood(m, x_0, schedule, 20, exact=True) for m in (model, known))
        assert (found - exact).abs().max() < 1e-10


def test_one_label_per_image_and_any_batches(mixture, schedule):
    labels = spread_labels(0, 0, 12, 3)
    x_T = torch.randn(12, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = ddim_sample(guided(mixture, labels, 2.5), x_T, schedule, 10)
    parts = [ddim_sample(guided(mixture, labels[i:i + 5], 2.5), x_T[i:i + 5], schedule, 10) for i in range(0, 12, 5)]
    assert (torch.cat(parts) - whole).abs().max() < 1e-12
    for k in range(3):
        alone = ddim_sample(guided(mixture, k, 2.5), x_T[labels == k], schedule, 10)
        assert (alone - whole[labels == k]).abs().max() < 1e-12
    nobody = ddim_sample(guided(mixture, [None]*12, 2.5), x_T, schedule, 10)
    assert (nobody - ddim_sample(mixture, x_T, schedule, 10)).abs().max() < 1e-12


def test_sample_images_takes_it(two, schedule):
    how = dict(timesteps=5, seed=0, batch_size=3, progress=False)
    images = sample_images(guided(two, 0, 2), schedule, 4, **how)
    assert torch.equal(images, sample_images(two.known(2), schedule, 4, shape=(1, 3, 3), **how))
    assert images.shape == (4, 3, 3, 1) and model_shape(guided(two, 0)) == (1, 3, 3)


def test_a_diffusers_network():
    net, x = unet(null_class=3, class_names=["T-shirt", "Shirt", "Boot"]), torch.randn(4, 1, 8, 8)
    t = torch.tensor([5, 100, 500, 900])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label_info(net) == ((0, 1, 2), ("T-shirt", "Shirt", "Boot"), 3)
    with torch.no_grad():
        y, null = torch.tensor([2, 1, 0, 3]), torch.full((4,), 3)
        eps_label, eps_null = net(x, t, class_labels=y).sample, net(x, t, class_labels=null).sample
        names = ["boot", "shirt", "t-shirt", "none"]
        assert torch.equal(guided(net, names)(x, t), eps_label)
        assert torch.equal(guided(net, names, 0)(x, t), eps_null)
        assert (eps_label - eps_null)[:3].abs().amax((1, 2, 3)).min() > 1e-4
        torch.testing.assert_close(guided(net, names, 3)(x, t), eps_null + 3*(eps_label - eps_null))
        torch.testing.assert_close(guided(net, "boot", 3)(x, 7), guided(net, [2]*4, 3)(x, torch.full((4,), 7)))


def test_a_diffusers_network_with_no_null_label():
    net, x = unet(), torch.zeros(2, 1, 8, 8)
    assert label_info(net) == ((0, 1, 2, 3), None, None)
    assert torch.equal(guided(net, 3)(x, 9), net(x, torch.tensor([9, 9]), class_labels=torch.tensor([3, 3])).sample)
    for labels, scale in ((1, 0), (1, 2), (1, 0.999)):
        with pytest.raises(ValueError, match="no null label"): guided(net, labels, scale)
    with pytest.raises(ValueError, match="no null label"): guided(net, None)
    with pytest.raises(ValueError, match="null_class must be in"): label_info(unet(null_class=5))


def test_it_is_a_wrapper_that_changes_nothing():
    net = unet(null_class=3)
    net.card = dict(digest="abc")
    state, mode = {k: v.clone() for k, v in net.state_dict().items()}, net.training
    model = guided(net, [0, 1], 2)
    assert model.net is net and net.training == mode and model.card == net.card and model.config == net.config
    assert list(model.state_dict()) == [f"net.{k}" for k in state]
    assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items())
    assert model_device(model) == model_device(net) and len(list(model.parameters())) == len(list(net.parameters()))
    assert model.settings == dict(labels=[0, 1], scale=2.) and copy.deepcopy(model).settings == model.settings
    assert not hasattr(model, "schedule") and not hasattr(model, "prediction")


@pytest.mark.parametrize("scale, rows", [(0, 3), (1, 3), (0.5, 6), (2, 6)])
def test_rows_per_evaluation(scale, rows, mixture, schedule):
    counter = CallCounter(mixture)
    ddim_sample(guided(counter, "coat", scale), torch.zeros(3, 1, 1, 1, dtype=torch.float64), schedule, 7)
    assert counter.rows == [rows]*7


@pytest.mark.parametrize("prediction", ["x_0", "v", "score"])
def test_inside_or_around_a_predictor(prediction, mixture, schedule):
    def net(x, t, class_labels=None): return from_eps(mixture(x, t, class_labels), x, t, schedule, prediction)
    net.config, net.null_class = mixture.config, mixture.null_class
    x, t = torch.randn(4, 1, 2, 2, dtype=torch.float64), torch.tensor([10, 200, 500, 900])
    exact = guided(mixture, "shoe", 4)(x, t)
    for model in (guided(NoisePredictor(net, schedule, prediction), "shoe", 4),
                  NoisePredictor(guided(net, "shoe", 4), schedule, prediction)):
        torch.testing.assert_close(model(x, t), exact, atol=1e-10, rtol=0)
    around = guided(NoisePredictor(net, schedule, prediction), "shoe", 4)
    assert around.schedule == schedule and around.prediction == prediction


def test_inside_or_around_an_angle_predictor():
    told = []
    def net(x, v, class_labels=None):
        told.append((v.dtype, class_labels))
        return x*torch.sin(v/1000).reshape(-1, 1, 1, 1)*(1 + append_dims(class_labels, 4))
    net.config, net.null_class = SimpleNamespace(num_class_embeds=2), 2
    x, t = torch.randn(3, 1, 2, 2, dtype=torch.float64), torch.tensor([0.5, 7., 20.])
    around = guided(AnglePredictor(net, 30, mean=0.1, std=0.5), [0, 1, 1], 3)
    inside = AnglePredictor(guided(net, [0, 1, 1], 3), 30, mean=0.1, std=0.5)
    torch.testing.assert_close(around(x, t), inside(x, t), atol=1e-12, rtol=0)
    assert all(dtype == torch.float64 for dtype, _ in told)
    assert told[0][1].tolist() == [2, 2, 2, 0, 1, 1]


def test_the_difference_is_scaled_in_the_images_precision(mixture):
    def net(x, t, class_labels): return mixture(x, t, class_labels).bfloat16()
    net.config, net.null_class = mixture.config, 3
    x, t = torch.randn(5, 1, 1, 1), torch.full((5,), 400)
    eps_null, eps_label = net(x, t, torch.full((5,), 3)).float(), net(x, t, torch.zeros(5).long()).float()
    out = guided(net, 0, 7.5)(x, t)
    assert out.dtype == torch.float32 and torch.equal(out, eps_null + 7.5*(eps_label - eps_null))


def test_guided_noise_is_the_gradient_of_its_log_densities(schedule):
    "In two dimensions, with labels of two components and different widths, by autograd in float64."
    means = torch.tensor([[-0.8, 0.3], [0.2, -0.5], [0.7, 0.6]], dtype=torch.float64)
    stds, weights, labels = torch.tensor([0.3, 0.15, 0.5]).double(), torch.tensor([1., 2., 3.]).double(), [0, 1, 0]
    model = MixtureOracle(schedule, means, stds, weights, labels)
    def log_density(x, ab, members): # of the noisy mixture, with a density each that sums to the members' weight
        var = ab*stds[members]**2 + 1 - ab
        square = (x[:, None] - math.sqrt(ab)*means[members]).square().sum(2)
        return torch.logsumexp((weights[members]/weights[members].sum()).log() - square/(2*var) - var.log(), 1)
    for t in (0, 100, 500, 999):
        ab = schedule.at(t)
        x = (1.5*torch.randn(50, 2, generator=torch.Generator().manual_seed(t), dtype=torch.float64)).requires_grad_()
        for label, members in ((0, [0, 2]), (1, [1])):
            for scale in (0, 0.5, 1, 3):
                log_p = (1 - scale)*log_density(x, ab, [0, 1, 2]) + scale*log_density(x, ab, members)
                exact = -math.sqrt(1 - ab)*torch.autograd.grad(log_p.sum(), x)[0]
                found = guided(model, label, scale)(x.detach(), torch.tensor(t))
                assert (found - exact).abs().max() < 1e-11, (t, label, scale)


NAMES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


@pytest.fixture
def garments(schedule): return MixtureOracle(schedule, torch.zeros(10, 1), class_names=NAMES)


def test_every_name_means_itself(garments):
    assert as_labels(NAMES, garments).tolist() == list(range(10))
    assert as_labels([name.upper() for name in NAMES], garments).tolist() == list(range(10))
    assert as_labels([f" {name} " for name in NAMES], garments).tolist() == list(range(10))
    assert as_labels([str(k) for k in range(10)], garments).tolist() == list(range(10))


def test_digits_are_named_before_they_are_numbered(schedule):
    turned = MixtureOracle(schedule, torch.zeros(3, 1), class_names=["2", "1", "0"])
    assert as_labels(["0", 0, "2", 2], turned).tolist() == [2, 0, 0, 2]
    assert as_labels("none", MixtureOracle(schedule, torch.zeros(2, 1), class_names=["None", "some"])).item() == 0


@pytest.mark.parametrize("labels, found", [
    ("boot", [9]), ("ankle", [9]), ("ANKLEBOOT", [9]), ("shirt", [6]), ("t-shirt", [0]), ("top", [0]), ("sand", [5]),
    (6, [6]), ((6, "bag"), [6, 8]), (range(3), [0, 1, 2]), (torch.tensor(4), [4]), (torch.tensor([4, 10]), [4, 10]),
    (torch.tensor([1, 2], dtype=torch.uint8), [1, 2]), (None, [10]), ([None, "None", "none"], [10, 10, 10])], ids=str)
def test_forms_of_labels(labels, found, garments):
    out = as_labels(labels, garments)
    assert out.tolist() == found and out.dtype == torch.int64
    if len(found) == 1: assert as_labels(labels, garments, 4).tolist() == found*4


@pytest.mark.parametrize("labels, error, said", [
    ("s", ValueError, "'T-shirt/top', 'Trouser', 'Dress', 'Sandal', 'Shirt', 'Sneaker'"),
    ("hat", ValueError, "unknown label 'hat', known are 'T-shirt/top', 'Trouser'"), ("-", ValueError, "unknown"),
    (10, ValueError, r"in \[0, 9\], got 10"), (-1, ValueError, r"in \[0, 9\], got -1"), ("12", ValueError, "got 12"),
    (torch.tensor([11]), ValueError, r"in \[0, 9\], got 11"), (1.0, TypeError, "integer"), (True, TypeError, "integer"),
    (torch.tensor([[1, 2]]), TypeError, "integer"), ([], ValueError, "got none"), ({1: 2}, TypeError, "integer")],
    ids=str)
def test_labels_refused(labels, error, said, garments):
    with pytest.raises(error, match=said): as_labels(labels, garments)


@pytest.mark.parametrize("scale", [-0.1, math.inf, math.nan, "2", None, True])
def test_scales_refused(scale, garments):
    with pytest.raises((ValueError, TypeError), match="scale must be"): guided(garments, 0, scale)


def test_batches_and_nesting_refused(garments):
    model, x = guided(garments, [0, 1, 2], 2), torch.zeros(6, 1)
    with pytest.raises(ValueError, match=r"labels must be .* shape \(3,\) for a batch of 6"): model(x, 5)
    with pytest.raises(ValueError, match=r"t must be .* shape \(4,\) for a batch of 3"): model(x[:3], torch.zeros(4))
    with pytest.raises(ValueError, match="guided already"): guided(model, 1)
    assert isinstance(model, Guided)


@pytest.mark.parametrize("K", [1, 2, 7, 10])
def test_spread_labels(K):
    whole = spread_labels(3, 0, 5*K + 3, K)
    assert torch.equal(whole[:5*K].reshape(5, K).sort(1).values, torch.arange(K).expand(5, K))
    for start in range(0, 3*K + 2):
        for n in (1, K, K + 3): assert torch.equal(spread_labels(3, start, n, K), whole[start:start + n])
    far = spread_labels(3, 10**9*K, K, K)
    assert sorted(far.tolist()) == list(range(K))


def test_every_place_gets_every_label_equally_often():
    table = spread_labels(0, 0, 100_000, 10).reshape(-1, 10)
    counts = torch.stack([column.bincount(minlength=10) for column in table.T]).double()
    chi = ((counts - 1000)**2/1000).sum().item() # 81 degrees of freedom: mean 81, variance 162
    assert abs(chi - 81) < 4*math.sqrt(162)

"Bad input is refused in one clear sentence before any model call."
import pytest
import torch

from slowddim.data import load_data
from slowddim.ddim import ddim_sample, ddim_step, ddim_trajectory, sample
from slowddim.ddpm import DDPM, ddpm_sample
from slowddim.generate import sample_images
from slowddim.noising import add_noise, predict_eps, predict_x0
from slowddim.oracle import MixtureOracle
from slowddim.pretrained import load_pretrained
from slowddim.schedule import NoiseSchedule, linear_schedule
from slowddim.unet import UNet

NAN = torch.full((3, 1, 4, 6), float("nan"))
INTS = torch.zeros(3, 1, 4, 6, dtype=torch.int64)

SAMPLER = [ # keyword arguments of ddim_sample, error, part of the message
    (dict(timesteps=1001), ValueError, r"in \[1, 1000\], got 1001"),
    (dict(timesteps=0), ValueError, r"in \[1, 1000\], got 0"),
    (dict(timesteps=-5), ValueError, "got -5"),
    (dict(timesteps=10.), TypeError, "integer, got 10.0"),
    (dict(timesteps=True), TypeError, "integer"),
    (dict(timesteps="all"), TypeError, "'all'"),
    (dict(timesteps=[]), ValueError, "empty"),
    (dict(timesteps=[1, 2, 3]), ValueError, "strictly descending, got 1 before 2"),
    (dict(timesteps=[5, 5]), ValueError, "strictly descending"),
    (dict(timesteps=[1000, 5]), ValueError, r"in \[0, 999\], got 1000"),
    (dict(timesteps=[5, -1]), ValueError, "got -1"),
    (dict(timesteps=[5.5, 2]), TypeError, "5.5"),
    (dict(timesteps=torch.ones(2, 2)), TypeError, "1-D"),
    (dict(spacing="karras"), ValueError, "'trailing', 'leading', 'linspace', 'quadratic', 'logsnr', got 'karras'"),
    (dict(variance="large"), ValueError, "'posterior', 'hat', got 'large'"),
    (dict(eta=-0.1), ValueError, r"\[0, 1.*got -0.1"),
    (dict(eta=2.), ValueError, r"\[0, 1.*got 2.0"),
    (dict(eta=float("nan")), ValueError, "finite"),
    (dict(eta="full"), TypeError, "'full'"),
    (dict(eta=0.5, η=0.5), TypeError, "same argument"),
    (dict(skip_steps=[998]), ValueError, r"not visited: \[998\]"),
    (dict(skip_steps=[1.5]), TypeError, "integer"),
    (dict(skip_steps="halves"), ValueError, "'thirds', got 'halves'"),
    (dict(skip_steps=3), TypeError, "int"),
    (dict(clip=(1, -1)), ValueError, "lo < hi"),
    (dict(clip=-1), ValueError, "positive"),
    (dict(generator=[torch.Generator()]), ValueError, "got 1 for a batch of 3"),
    (dict(generator=42), TypeError, "torch.Generator, a list of them, or None, got 42"),
    (dict(clip="1"), ValueError, "clip must be"),
    (dict(clip=True), ValueError, "clip must be"),
    (dict(x_T=NAN), ValueError, "72 values that are NaN"),
    (dict(x_T=INTS), TypeError, "torch.int64"),
    (dict(x_T=[[0.]]), TypeError, "list"),
    (dict(x_T=torch.zeros(0, 1, 4, 6)), ValueError, "non-empty"),
    (dict(schedule=[0.9, 0.1]), TypeError, "NoiseSchedule"),
]


@pytest.mark.parametrize("kwargs, error, "
                         "message", SAMPLER, ids=[f"{i}-{next(iter(k))}" for i, (k, *_) in enumerate(SAMPLER)])
@pytest.mark.parametrize("sampler", [ddim_sample, ddim_trajectory])
def test_sampler_refuses(sampler, kwargs, error, message, oracle, x_T, schedule):
    args = {"x_T": x_T, "schedule": schedule, "timesteps": 10} | kwargs
    with pytest.raises(error, match=message):
        sampler(oracle, args.pop("x_T"), args.pop("schedule"), args.pop("timesteps"), **args)
    assert oracle.n_calls == 0


OTHER = [
    (lambda o, x, s: ddim_step(x, x[:2], t=5, t_prev=3, schedule=s), ValueError,
     r"same shape, got \(3, 1, 4, 6\) and \(2, 1, 4, 6\)"),
    (lambda o, x, s: ddim_step(x, x, t=5, t_prev=5, schedule=s), ValueError, r"t_prev must be in \[-1, 4\], got 5"),
    (lambda o, x, s: ddim_step(x, x, t=1000, t_prev=5, schedule=s), ValueError, r"t must be in \[0, 999\]"),
    (lambda o, x, s: ddim_step(x, x, t=9, t_prev=5, schedule=s, eta=1., noise=x[:1]), ValueError, "same shape"),
    (lambda o, x, s: ddpm_sample(o, x, s, variance="small"), ValueError, "'hat'"),
    (lambda o, x, s: ddpm_sample(o, NAN, s), ValueError, "NaN"),
    (lambda o, x, s: ddpm_sample(o, x, s, generator=[torch.Generator()]), ValueError, "got 1 for a batch of 3"),
    (lambda o, x, s: predict_x0(x, x, torch.tensor([1]), s), ValueError, "one time per image"),
    (lambda o, x, s: predict_eps(x, x, torch.tensor([-1, 5, 5]), s), ValueError, "holds no noise"),
    (lambda o, x, s: add_noise(INTS.byte(), INTS.byte(), 5, s), TypeError, "uint8: see to_unit"),
    (lambda o, x, s: MixtureOracle(s, [[0.], [1.]], weights=[1, -1]), ValueError, "positive"),
    (lambda o, x, s: UNet()(torch.zeros(1, 1, 28, 28), 5), ValueError, r"pad_images\(x, 32\)"),
    (lambda o, x, s: add_noise(x, x, torch.tensor([1, 2]), s), ValueError, "one time per image"),
    (lambda o, x, s: add_noise(x, x, 1000, s), ValueError, "got 1000"),
    (lambda o, x, s: add_noise(x, x[..., :2], 3, s), ValueError, "same shape"),
    (lambda o, x, s: sample(s, o, n=2), ValueError, "shape="),
    (lambda o, x, s: sample(s, o, n=0, shape=(1, 2, 2)), ValueError, "at least 1"),
    (lambda o, x, s: sample_images(o, s, 4, timesteps=2000, shape=(1, 2, 2)), ValueError, "got 2000"),
    (lambda o, x, s: sample_images(o, s, 4, solver="rk45", shape=(1, 2, 2)), ValueError, "'ddim'"),
    (lambda o, x, s: sample_images(o, s, 4, batch_size=0, shape=(1, 2, 2)), ValueError, "at least 1"),
    (lambda o, x, s: load_pretrained("fashion"), ValueError, "'fashion_mnist'.*got 'fashion'"),
    (lambda o, x, s: load_data("fashion"), ValueError, "'fashion_mnist', 'mnist', 'cifar10', 'digits'"),
    (lambda o, x, s: load_data("digits", "valid"), ValueError, "'train', 'test'"),
    (lambda o, x, s: load_data("digits", classes=["ten"]), ValueError, "'9', got 'ten'"),
    (lambda o, x, s: linear_schedule(0), ValueError, "at least 1"),
    (lambda o, x, s: linear_schedule(beta_min=0.), ValueError, r"\(0, 1\)"),
    (lambda o, x, s: NoiseSchedule([0.9, 0.95]), ValueError, "strictly decreasing"),
    (lambda o, x, s: NoiseSchedule([float("nan"), 0.5]), ValueError, r"\(0, 1\)"),
    (lambda o, x, s: DDPM(βmax=0.01, beta_max=0.02), TypeError, "same argument"),
]


@pytest.mark.parametrize("call, error, message", OTHER, ids=range(len(OTHER)))
def test_everything_else_refuses(call, error, message, oracle, x_T, schedule):
    with pytest.raises(error, match=message): call(oracle, x_T, schedule)
    assert oracle.n_calls == 0


def test_a_model_of_the_wrong_shape_is_named(x_T, schedule):
    with pytest.raises(ValueError, match="input and output"): ddim_sample(lambda x, t: x[..., :2], x_T, schedule, 5)
    with pytest.raises(TypeError, match="tensor or an object with .sample"):
        ddim_sample(lambda x, t: None, x_T, schedule, 5)

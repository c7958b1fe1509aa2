"""Laws that our schedulers keep and diffusers' break, each with the thread where people met it.

Every law runs twice. Theirs is expected to fail, strictly: the day diffusers mends one, its test says so.
"""
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from slowddim.noising import add_noise
from slowddim.oracle import GaussianOracle
from slowddim.schedule import linear_schedule
from slowddim.schedulers import DiffusersStyleDDIM, DiffusersStyleDDPM


def theirs(**kwargs): return DDIMScheduler(**dict(clip_sample=False) | kwargs)


def ours(**kwargs):
    "Ours with the same settings; what has no equivalent is refused, which is an answer too."
    settings = dict(clip_sample=False, timestep_spacing="leading") | kwargs
    return DiffusersStyleDDIM.from_config(dict(DDIMScheduler().config) | settings)


def refused(make, message, **kwargs): # is the setting refused when the scheduler is made?
    try: make(**kwargs)
    except ValueError as e: return message in str(e)
    return False


def lands_on_the_next_listed_time(make, S, spacing):
    sched, schedule = make(timestep_spacing=spacing), linear_schedule()
    sched.set_timesteps(S)
    x_0, eps = torch.full((4, 1, 2, 2), 0.3, dtype=torch.float64), torch.randn(4, 1, 2, 2, dtype=torch.float64)
    taus, model = sched.timesteps.tolist(), GaussianOracle(schedule, 0.3, 0.)
    for t, t_next in zip(taus, [*taus[1:], -1]):
        x_t = add_noise(x_0, eps, t, schedule)
        x = sched.step(model(x_t, torch.full((4,), t)), t, x_t).prev_sample
        assert (x - add_noise(x_0, eps, t_next, schedule)).abs().max() < 1e-4


def starts_at_the_noisiest_time(make):
    sched = make()
    sched.set_timesteps(2)
    assert sched.timesteps[0] == 999


def ends_on_the_clean_image(make):
    sched = make(set_alpha_to_one=False)
    sched.set_timesteps(10)
    x = torch.randn(4, 1, 2, 2)
    step = sched.step(torch.randn(4, 1, 2, 2), sched.timesteps[-1], x)
    assert torch.equal(step.prev_sample, step.pred_original_sample)


def stays_inside_the_table(make):
    sched = make(steps_offset=1)
    if refused(sched.set_timesteps, "steps_offset=1 moves the first of 1000 times", num_inference_steps=1000): return
    sched.set_timesteps(1000)
    x = torch.randn(1, 1, 2, 2)
    assert sched.step(x, sched.timesteps[0], x).prev_sample.isfinite().all()


def visits_a_list(make):
    sched = make()
    sched.set_timesteps(timesteps=[900, 500, 20])
    assert sched.timesteps.tolist() == [900, 500, 20]


def never_answers_with_infinities(make):
    settings = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    if refused(make, "no signal is left", **settings): return
    sched = make(**settings)
    sched.set_timesteps(10)
    x = torch.randn(1, 1, 2, 2)
    assert sched.step(x, sched.timesteps[0], x).prev_sample.isfinite().all()


def never_answers_with_nan(make):
    sched = make()
    sched.set_timesteps(10)
    x = torch.randn(1, 1, 2, 2)
    try: assert sched.step(x, 500, x, eta=2.).prev_sample.isfinite().all()
    except ValueError as e: assert "eta must be in [0, 1" in str(e)


LAWS = [
    (lambda make: lands_on_the_next_listed_time(make, 10, "linspace"), "huggingface/diffusers #12633, #11347"),
    (lambda make: lands_on_the_next_listed_time(make, 366, "linspace"), "huggingface/diffusers #12633, #11347"),
    (lambda make: lands_on_the_next_listed_time(make, 13, "trailing"), "huggingface/diffusers #9261"),
    (lambda make: lands_on_the_next_listed_time(make, 366, "trailing"), "huggingface/diffusers #9261"),
    (ends_on_the_clean_image, "huggingface/diffusers #6068"),
    (stays_inside_the_table, "huggingface/diffusers #10003, #6926"),
    (visits_a_list, "huggingface/diffusers #2165"),
    (never_answers_with_infinities, "huggingface/diffusers #3851, #5103, #5969"),
    (never_answers_with_nan, "no thread: found here, eta=2")]
NAMES = ["linspace-10", "linspace-366", "trailing-13", "trailing-366", "clean-end", "offset", "list", "zero-snr", "eta"]


def fails(law, name): # a law that diffusers breaks, and how
    error = dict(offset=IndexError, list=TypeError).get(name, AssertionError)
    return pytest.param(*law, id=name, marks=pytest.mark.xfail(strict=True, reason=law[1], raises=error))


@pytest.mark.parametrize("law, thread", [fails(law, name) for law, name in zip(LAWS, NAMES)])
def test_theirs(law, thread): law(theirs)


KEPT = [pytest.param(*law, id=name) for law, name in zip(LAWS, NAMES) if name != "clean-end"]


@pytest.mark.parametrize("law, thread", KEPT)
def test_ours(law, thread): law(ours)


def test_ours_ends_on_the_clean_image_unless_told_otherwise():
    "set_alpha_to_one=False is a convention that one may ask for, and then it is theirs."
    ends_on_the_clean_image(lambda set_alpha_to_one: ours())
    x, eps = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    steps = []
    for sched in (ours(set_alpha_to_one=False), theirs(set_alpha_to_one=False)):
        sched.set_timesteps(10)
        steps.append(sched.step(eps, sched.timesteps[-1], x).prev_sample)
    assert (steps[0] - steps[1]).abs().max() < 1e-5


@pytest.mark.xfail(strict=True, reason="huggingface/diffusers #2585, #5921")
def test_default_of_theirs_starts_at_the_noisiest_time(): starts_at_the_noisiest_time(DDIMScheduler)


def test_default_of_ours_starts_at_the_noisiest_time(): starts_at_the_noisiest_time(DiffusersStyleDDIM)


@pytest.mark.parametrize("make", [
    pytest.param(lambda: DDPMScheduler(clip_sample=False, variance_type="fixed_large", timestep_spacing="trailing"),
                 id="theirs",
                 marks=pytest.mark.xfail(strict=True, reason="no thread: found here, fixed_large adds noise to the "
                                                             "last step")),
    pytest.param(lambda: DiffusersStyleDDPM(variance="hat"), id="ours")])
def test_the_last_ancestral_step_adds_no_noise(make):
    sched = make()
    sched.set_timesteps(10)
    x, eps = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    step = sched.step(eps, int(sched.timesteps[-1]), x, generator=torch.Generator().manual_seed(0))
    assert (step.prev_sample - step.pred_original_sample).abs().max() < 1e-5

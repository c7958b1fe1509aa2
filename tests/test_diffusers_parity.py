"Our sampler on diffusers' time steps equals DDIMScheduler where that is the paper's algorithm."
import pytest
import torch
from diffusers import DDIMScheduler

from slowddim.ddim import ddim_sample, ddim_trajectory
from slowddim.oracle import GaussianOracle, MixtureOracle


def paper_exact(S, spacing):
    sched = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False,
                          set_alpha_to_one=True, steps_offset=0,
                          prediction_type="epsilon", thresholding=False, timestep_spacing=spacing)
    sched.set_timesteps(S)
    return sched


@pytest.mark.parametrize("S", [10, 50, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("data", ["gauss", "mixture"])
def test_eta_0(S, spacing, data, schedule):
    if data == "gauss": model = GaussianOracle(schedule, -0.2, 0.5)
    else: model = MixtureOracle(schedule, [[[[-0.5]]], [[[0.8]]]], 0.2)
    sched, x_T = paper_exact(S, spacing), torch.randn(16, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    x = x_T
    for t in sched.timesteps: x = sched.step(model(x, t.expand(len(x))), t, x).prev_sample
    ours = ddim_sample(model, x_T, schedule, sched.timesteps)
    assert (ours - x).abs().max() < 5e-6


def eta_1_gap(S, schedule, dtype, exact_table):
    "Largest difference after S stochastic steps with the same noise."
    model, sched = GaussianOracle(schedule, -0.2, 0.5), paper_exact(S, "leading")
    if exact_table: sched.alphas_cumprod = schedule.alpha_bar.clone()
    x_T = torch.randn(16, 1, 2, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    g, x = torch.Generator().manual_seed(1), x_T
    for t in sched.timesteps:
        z = torch.randn(x.shape, generator=g, dtype=dtype)
        x = sched.step(model(x, t.expand(len(x))), t, x, eta=1., variance_noise=z).prev_sample
    ours = ddim_sample(model, x_T, schedule, sched.timesteps, eta=1., generator=torch.Generator().manual_seed(1))
    return (ours - x).abs().max().item()


@pytest.mark.parametrize("S", [10, 50, 1000])
def test_eta_1_with_the_same_noise(S, schedule):
    assert eta_1_gap(S, schedule, torch.float32, exact_table=True) < 5e-6
    assert eta_1_gap(S, schedule, torch.float64, exact_table=True) < 1e-12


def test_what_is_left_at_eta_1_is_their_float32_table(schedule):
    "Untouched, diffusers' sigma loses digits of 1 - alpha_bar near t = 0: 5e-6 still holds to 50 steps, 1000 steps "
    "gather 2e-5."
    assert max(eta_1_gap(S, schedule, torch.float32, exact_table=False) for S in (10, 50)) < 5e-6
    assert eta_1_gap(1000, schedule, torch.float64, exact_table=False) < 5e-5


def test_predicted_x0_agrees_on_the_way(schedule):
    model, sched = GaussianOracle(schedule, -0.2, 0.5), paper_exact(50, "leading")
    x_T = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    for state in ddim_trajectory(model, x_T, schedule, sched.timesteps):
        theirs = sched.step(state.eps, state.t, state.x_t)
        assert (theirs.pred_original_sample - state.x_0).abs().max() < 5e-6*max(1, schedule.sigma[state.t].item())
        assert (theirs.prev_sample - state.x_prev).abs().max() < 5e-6

"The ODE solvers: other people's code, other dtypes, other shapes, and what must be refused."
import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

from slowddim.core import image_generators, randn
from slowddim.ddim import ddim_coefficients, ddim_sample
from slowddim.generate import DEFAULT_SOLVER, sample_images, solver_trajectory
from slowddim.latent import GUESSES
from slowddim.ode import _divergence, log_likelihood, ode_sample, ode_solvers, ode_steps, sigma_at
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.schedule import SPACINGS, as_timesteps, cosine_schedule, karras_schedule, subsequence
from slowddim.steps import SOLVERS, Solver, arrival, run_steps


@pytest.fixture
def start(): return torch.randn(64, 3, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("S", [5, 20, 50])
def test_2m_is_diffusers_dpm_solver(schedule, start, S):
    theirs = DPMSolverMultistepScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, solver_order=2,
                                         algorithm_type="dpmsolver++", final_sigmas_type="zero")
    theirs.set_timesteps(timesteps=subsequence(1000, S))
    model, x = GaussianOracle(schedule, 0.3, 0.25), start
    for t in theirs.timesteps: x = theirs.step(model(x, t.expand(len(x))), t, x).prev_sample
    ours = ode_sample(model, start, schedule, S, solver="dpmpp_2m")
    assert (x - ours).abs().max() < 2e-4 # their tables are float32


def test_heun_is_diffusers_heun(schedule, start):
    theirs = HeunDiscreteScheduler(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)
    theirs.set_timesteps(28) # every 37th time: theirs are whole numbers
    model = GaussianOracle(schedule, 0.3, 0.25)
    x = start*(1 + sigma_at(999, schedule)**2)**0.5 # they step x_bar
    for t in theirs.timesteps:
        x = theirs.step(model(theirs.scale_model_input(x, t), t.long().expand(len(x))), t, x).prev_sample
    ours = ode_sample(model, start, schedule, theirs.timesteps.unique().long().flip(0), solver="heun")
    assert (x - ours).abs().max() < 2e-4


@pytest.mark.parametrize("solver", ode_solvers())
def test_every_solver_reaches_the_flow_with_all_times(schedule, start, solver):
    model = CallCounter(GaussianOracle(schedule, -0.2, 0.5))
    off = ode_sample(model, start, schedule, 1000, solver=solver) - gaussian_flow(model.model, start, 999)
    assert off.abs().max() < (2e-2 if solver == "ddim" else 2e-3)
    assert model.n_calls == SOLVERS[solver].evaluations(1000) == dict(heun=1999, ab3=1001).get(solver, 1000)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_memory_helps_on_every_spacing(schedule, start, spacing):
    model = GaussianOracle(schedule, 0.3, 0.25)
    exact = gaussian_flow(model, start, as_timesteps(50, schedule, spacing)[0])
    error = {s: (ode_sample(model, start, schedule, 50, solver=s, spacing=spacing) - exact).square().mean().sqrt()
             for s in ("ddim", "ab2")}
    assert error["ab2"] < error["ddim"]


@pytest.mark.parametrize("solver", ode_solvers())
def test_one_step_is_the_guess(schedule, start, solver):
    model = MixtureOracle(schedule, torch.zeros(2, 3, 2, 5), 0.3)
    assert torch.equal(ode_sample(model, start, schedule, 1, solver=solver), ddim_sample(model, start, schedule, 1))


@pytest.mark.parametrize("solver", ode_solvers())
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_dtype_follows_the_start(schedule, start, solver, dtype, tolerance):
    model = GaussianOracle(schedule, 0.1, 0.4)
    low = ode_sample(model, start.to(dtype), schedule, 20, solver=solver)
    assert low.dtype == dtype
    assert (low.double() - ode_sample(model, start, schedule, 20, solver=solver)).abs().max() < tolerance*5


@pytest.mark.parametrize("solver", ["ab2", "ab3", "heun", "dpmpp_2m"])
def test_clipping_keeps_every_guess_in_range(schedule, start, solver):
    model = GaussianOracle(schedule, 0.9, 0.5)
    states = list(solver_trajectory(model, start, schedule, 12, solver=solver, clip=1.))
    assert max(s.x_0.abs().max() for s in states) <= 1 + 1e-12 and torch.equal(states[-1].x_0, states[-1].x_prev)


@pytest.mark.parametrize("schedule_", [cosine_schedule(200), karras_schedule(50)])
def test_other_schedules(schedule_, start):
    model = GaussianOracle(schedule_, 0.3, 0.25)
    exact = gaussian_flow(model, start, schedule_.n_steps - 1)
    error = {s: (ode_sample(model, start, schedule_, 40, solver=s) - exact).square().mean().sqrt()
             for s in ode_solvers()}
    assert error["dpmpp_2m"] < error["ddim"] and error["ab2"] < error["ddim"]


def test_up_and_down_is_the_identity_as_steps_shrink(schedule):
    x = torch.linspace(-1, 1, 9).double().reshape(9, 1, 1, 1)
    model, back = MixtureOracle(schedule, [[[[-0.6]]], [[[0.5]]]], 0.15), {}
    for S in (100, 200, 400):
        path = sorted({0, *subsequence(1000, S)})
        up = arrival(run_steps(model, x, ode_steps(path, schedule, "heun")))
        down = arrival(run_steps(model, up, ode_steps(path[::-1], schedule, "heun")))
        back[S] = (down - x).abs().max().item()
    assert back[100] > 3*back[200] > 9*back[400]


def test_sample_images_takes_every_solver_and_any_batch(schedule):
    model = GaussianOracle(schedule, 0., 0.4)
    for solver in SOLVERS:
        a, b = (sample_images(model, schedule, 6, 8, shape=(1, 4, 4), solver=solver, batch_size=k, progress=False)
                for k in (6, 4))
        assert (a.int() - b.int()).abs().max() <= 1
    default = sample_images(model, schedule, 6, 8, shape=(1, 4, 4), progress=False)
    named = sample_images(model, schedule, 6, 8, shape=(1, 4, 4), solver=DEFAULT_SOLVER, progress=False)
    assert torch.equal(default, named)
    x_T = randn((6, 1, 4, 4), generator=image_generators(0, 0, 6))
    by_hand = ode_sample(model, x_T, schedule, 8, solver=DEFAULT_SOLVER, clip=1.)
    assert (by_hand.add(1).mul(127.5).round().clamp(0, 255).permute(0, 2, 3, 1) - named).abs().max() <= 1


def test_a_solver_of_ones_own_needs_no_name(schedule, start):
    "A `Solver` works wherever a name does: two halves of every move, at the time in the middle."
    def halves(path, i, schedule):
        t, p = path[i:i + 2]
        if p == -1: return [ddim_coefficients(t, p, schedule)]
        return [ddim_coefficients(t, (t + p)//2, schedule), ddim_coefficients((t + p)//2, p, schedule)]

    mine = Solver("halves", halves, lambda S: 2*S - 1)
    model = CallCounter(GaussianOracle(schedule, 0.3, 0.25))
    times = subsequence(1000, 10)
    twice = [t for a, b in zip(times, times[1:]) for t in (a, (a + b)//2)] + times[-1:]
    expected = ddim_sample(model.model, start, schedule, twice)
    assert torch.equal(ode_sample(model, start, schedule, times, solver=mine), expected)
    assert model.n_calls == mine.evaluations(10) == 19 and "halves" not in SOLVERS
    assert sample_images(model, schedule, 2, 5, shape=(1, 4, 4), solver=mine, progress=False).shape == (2, 4, 4, 1)


@pytest.mark.parametrize("kwargs, message", [
    (dict(solver="heun", eta=1.), "is deterministic"), (dict(solver="dpmpp_2m", variance="hat"), "is deterministic"),
    (dict(solver="rk4"), "'dpmpp_2m'"), (dict(solver="ab2", spacing="log"), "'quadratic'"),
    (dict(solver="ddpm", eta=0.5), "eta=1")])
def test_refused_before_any_call(schedule, kwargs, message):
    model = CallCounter(GaussianOracle(schedule))
    with pytest.raises(ValueError, match=message): sample_images(model, schedule, 2, 4, shape=(1, 2, 2), **kwargs)
    assert model.n_calls == 0


def test_likelihood_of_a_network_and_probes(schedule):
    from slowddim.unet import UNet
    torch.manual_seed(0)
    net = UNet(8, widths=(32,), patch_size=2).double()
    torch.nn.init.normal_(list(net.parameters())[-2], std=0.05) # the last layer starts at zero
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    exact = _divergence(net, x, 300, exact=True)
    probes = _divergence(net, x, 300, n_probes=300, generator=torch.Generator().manual_seed(0))
    assert exact.abs().min() > 1e-4 and (exact - probes).abs().max() < 0.3*exact.abs().max() + 0.05
    out = log_likelihood(net, x, schedule, 10, generator=torch.Generator().manual_seed(0))
    assert out.shape == (2,) and out.dtype == torch.float64 and out.isfinite().all()
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("mean, std", [(0., 1.), (0.5, 0.1), (-0.8, 0.05)])
def test_likelihood_of_gaussians(schedule, mean, std):
    model = GaussianOracle(schedule, mean, std)
    x = mean + std*torch.linspace(-2, 2, 5).double().reshape(5, 1, 1, 1)
    ab = schedule.at(0)
    truth = torch.distributions.Normal(ab**0.5*mean, math.sqrt(ab*std**2 + 1 - ab)).log_prob(x.flatten())
    assert (log_likelihood(model, x, schedule, 1000, exact=True) - truth).abs().max() < 0.02


def test_guesses_are_named(): assert GUESSES == ("paper", "target", "last")

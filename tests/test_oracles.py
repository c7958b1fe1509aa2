"Samplers against closed forms: exact recursions, exact flows, equivalences."
import math

import pytest
import torch

from slowddim.ddim import ddim_coefficients, ddim_sample
from slowddim.ddpm import ddpm_coefficients, ddpm_sample
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.schedule import SPACINGS, as_timesteps, cosine_schedule, linear_schedule, subsequence

MEAN, STD = 0.3, 0.25


def recursion(schedule, taus, eta, hat):
    "Mean and variance after the last step from DDIM eq. 9, 12 and 16, written out for Gaussian data."
    m, v = 0., 1.
    for t, p in zip(taus, [*taus[1:], -1]):
        a, b = schedule.at(t), schedule.at(p)
        slope = math.sqrt(1 - a)/(a*STD**2 + 1 - a) # eps = slope (x - sqrt(a) MEAN)
        sig = (1. if hat else eta)*math.sqrt((1 - b)/(1 - a))*math.sqrt(1 - a/b)
        gain = math.sqrt(b)*(1 - math.sqrt(1 - a)*slope)/math.sqrt(a) + math.sqrt(1 - b - sig**2)*slope
        m = math.sqrt(b)*MEAN + gain*(m - math.sqrt(a)*MEAN)
        v = gain**2*v + (0. if p == -1 else 1 - a/b if hat else sig**2)
    return m, v


def through_the_sampler(schedule, taus, eta, hat):
    "The same two numbers from the library's own steps: push mean and variance through x_p = A x + B eps + C z."
    oracle = GaussianOracle(schedule, MEAN, STD)
    m, v = 0., 1.
    for t, p in zip(taus, [*taus[1:], -1]):
        step = ddim_coefficients(t, p, schedule, eta, "hat" if hat else "posterior")
        of_xt = step.of_x0/step.signal # eq. 12 in terms of x_t and eps
        of_eps = step.of_eps - of_xt*step.noise
        e0, e1 = oracle(torch.tensor([[0.], [1.]], dtype=torch.float64), torch.full((2,), t)).flatten().tolist()
        gain = of_xt + of_eps*(e1 - e0)
        m, v = gain*m + of_eps*e0, gain**2*v + step.sigma**2
    return m, v


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("eta, hat", [(0., False), (0.2, False), (0.5, False), (1., False), (1., True)])
@pytest.mark.parametrize("schedule", [linear_schedule(), cosine_schedule(), linear_schedule(beta_max=0.01)],
                         ids=["linear", "cosine", "source"])
def test_mean_and_variance_follow_the_recursion(spacing, eta, hat, schedule):
    for S in (1, 2, 10, 50, 366, 1000):
        taus = as_timesteps(S, schedule, spacing)
        exact, ours = recursion(schedule, taus, eta, hat), through_the_sampler(schedule, taus, eta, hat)
        assert abs(exact[0] - ours[0]) < 1e-9 and abs(exact[1] - ours[1]) < 1e-9, (S, exact, ours)


def test_the_loop_itself_follows_the_recursion(schedule):
    "A grid of quadrature points has mean 0 and variance 1 exactly, so at eta 0 the loop must return the exact mean "
    "and variance."
    x_T = torch.tensor([[-math.sqrt(1.5)], [0.], [math.sqrt(1.5)]], dtype=torch.float64)
    for spacing in SPACINGS:
        for S in (1, 10, 50):
            out = ddim_sample(GaussianOracle(schedule, MEAN, STD), x_T, schedule, S, spacing=spacing)
            m, v = recursion(schedule, as_timesteps(S, schedule, spacing), 0., False)
            assert abs(out.mean().item() - m) < 1e-9 and abs(out.var(correction=0).item() - v) < 1e-9


@pytest.mark.parametrize("model", [GaussianOracle(linear_schedule(), -0.2, 0.5),
                                   MixtureOracle(linear_schedule(), [[-1.], [1.]], 0.1)], ids=["gauss", "mixture"])
@pytest.mark.parametrize("S, spacing", [(10, "linspace"), (50, "linspace"), (100, "quadratic"), (37, "trailing")])
def test_noise_reuse_equals_the_subsequence_at_eta_0(model, S, spacing, schedule):
    x_T = torch.randn(500, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    taus = subsequence(1000, S, spacing)
    fine = [t for t in range(999, -1, -1) if t <= taus[0]]
    counter = CallCounter(model)
    reused = ddim_sample(counter, x_T, schedule, fine, skip_steps=set(fine) - set(taus))
    assert counter.n_calls == S and counter.ts == taus
    assert (reused - ddim_sample(model, x_T, schedule, taus)).abs().max() < 1e-12


def test_a_thousand_steps_land_on_the_flow(schedule):
    "First order: the error against the exact flow shrinks like 1/S, and at S = 1000 it is below 2e-3 per unit of x_T."
    oracle, x_T = GaussianOracle(schedule, -0.2, STD), torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None]
    exact = gaussian_flow(oracle, x_T, 999)
    err = {S: ((ddim_sample(oracle, x_T, schedule, S) - exact)**2).mean().sqrt().item() for S in (125, 250, 500, 1000)}
    err = {S: e/x_T.std(correction=0).item() for S, e in err.items()}
    assert err[1000] < 2e-3
    for S in (125, 250, 500): assert 1.6 < err[S]/err[2*S] < 2.4, err


def test_eta_1_is_ddpm_number_by_number(schedule):
    for t in range(1000):
        for variance in ("posterior", "hat"):
            ours = ddim_coefficients(t, t - 1, schedule, 1., variance)
            bayes = ddpm_coefficients(t, t - 1, schedule, variance)
            assert ours[:2] == bayes[:2] == (t, t - 1)
            assert max(abs(u - w) for u, w in zip(ours[2:7], bayes[2:7])) < 1e-10, t


def test_ddpm_sample_equals_ddim_at_eta_1(schedule, oracle, x_T):
    def draw(f, **kw): return f(oracle, x_T, schedule, generator=torch.Generator().manual_seed(5), **kw)
    torch.testing.assert_close(draw(ddpm_sample), draw(ddim_sample, timesteps=1000, eta=1.), atol=1e-10, rtol=0)


def test_sigma_never_exceeds_what_is_left(schedule):
    for spacing in SPACINGS:
        for S in (2, 10, 100, 1000):
            taus = as_timesteps(S, schedule, spacing)
            for t, p in zip(taus, [*taus[1:], -1]):
                full, hat = (ddim_coefficients(t, p, schedule, 1., v).sigma for v in ("posterior", "hat"))
                assert full**2 <= 1 - schedule.at(p) + 1e-15 and full <= hat < 1
                assert p != -1 or hat == 0


def test_dtype_shape_and_determinism(schedule):
    for dtype in (torch.float32, torch.float64):
        for shape in ((2, 3, 5, 7), (1, 1, 4), (4, 2)):
            x = torch.randn(shape, dtype=dtype)
            model = GaussianOracle(schedule)
            out = ddim_sample(model, x, schedule, 7)
            assert out.dtype == dtype and out.shape == x.shape
            assert torch.equal(out, ddim_sample(model, x, schedule, 7, generator=torch.Generator().manual_seed(9)))
            one, two = (ddim_sample(model, x, schedule, 7, eta=1.,
                                    generator=torch.Generator().manual_seed(s)) for s in (1, 2))
            assert not torch.equal(one, two)

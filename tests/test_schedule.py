"Schedules and sub-sequences against diffusers' tables and exact arithmetic."
from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from slowddim.schedule import SPACINGS, as_timesteps, cosine_schedule, linear_schedule, scaled_linear_schedule
from slowddim.schedule import subsequence


@pytest.mark.parametrize("ours, theirs", [
    (linear_schedule(), dict(beta_schedule="linear", beta_start=1e-4, beta_end=0.02)),
    (scaled_linear_schedule(), dict(beta_schedule="scaled_linear", beta_start=1e-4, beta_end=0.02)),
    (cosine_schedule(), dict(beta_schedule="squaredcos_cap_v2")),
])
def test_tables_equal_diffusers(ours, theirs):
    table = DDPMScheduler(**theirs).alphas_cumprod.double()
    torch.testing.assert_close(ours.alpha_bar, table, atol=1e-6, rtol=1e-4)


def test_linear_table_is_exact():
    betas = [Fraction(b) for b in torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64).tolist()]
    product, ours = Fraction(1), linear_schedule()
    for t, b in enumerate(betas[:200]):
        product *= 1 - b
        assert abs(float(1 - product) - (1 - ours.at(t))) <= 1e-15 * (t + 2)


@pytest.mark.parametrize("S", [1, 2, 10, 13, 50, 300, 366, 1000])
def test_leading_and_trailing_equal_diffusers_where_it_counts_right(S):
    for spacing in ("leading", "trailing"):
        sched = DDIMScheduler(timestep_spacing=spacing)
        sched.set_timesteps(S)
        theirs = sched.timesteps.tolist()
        if len(theirs) == S: assert subsequence(1000, S, spacing) == theirs


@pytest.mark.parametrize("S", [2, 10, 13, 366, 1000])
def test_linspace_equals_numpy(S):
    assert subsequence(1000, S, "linspace") == np.linspace(0, 999, S).round()[::-1].astype(int).tolist()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_exact_length_everywhere(spacing):
    for T in (1, 2, 7, 50, 999):
        for S in range(1, T + 1) if T <= 50 else (1, 2, 30, 366, 998, 999):
            taus = as_timesteps(S, linear_schedule(T), spacing)
            assert len(taus) == S and sorted(set(taus), reverse=True) == taus and 0 <= taus[-1] <= taus[0] < T

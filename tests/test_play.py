"""The sampler in JavaScript beside the one in Python: coefficients, noise, labels and images."""
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

from slowddim.core import DATA_RANGE, image_generators, randn, to_pixels
from slowddim.ddim import plan_steps
from slowddim.files import read_json, weights_dir
from slowddim.generate import solver_trajectory
from slowddim.guidance import spread_labels
from slowddim.latent import slerp
from slowddim.learned import load_solver
from slowddim.ode import ode_steps
from slowddim.schedule import SPACINGS, NoiseSchedule, as_timesteps, cosine_schedule, linear_schedule, sigmoid_schedule
from slowddim.steps import SOLVERS, last_x0, run_steps

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
SCHEDULES = dict(linear=linear_schedule(), short=linear_schedule(50, beta_max=0.3), cosine=cosine_schedule(),
                 sigmoid=sigmoid_schedule(200),
                 table=NoiseSchedule(torch.linspace(0.99, 0.01, 100, dtype=torch.float64)))


@pytest.fixture(scope="module")
def node(root): # asks nbs/play/ddim.js under node
    def ask(what, **facts):
        asked = json.dumps(dict(what=what, module=str(root/"nbs"/"play"/"ddim.js"), **facts))
        run = subprocess.run(["node", root/"tests"/"play.mjs"], input=asked, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        return json.loads(run.stdout)
    return ask


def formula(x, t): return x*torch.cos(t.double()).float()[:, None, None, None] # in the place of a network


def steps_of(schedule, S, solver, eta, spacing): # Python's
    if solver == "ddpm": return plan_steps(schedule, S, eta=1., spacing=spacing)
    if solver == "ddim": return plan_steps(schedule, S, eta=eta, spacing=spacing)
    return ode_steps([*as_timesteps(S, schedule, spacing), -1], schedule, solver)


def test_it_is_short_and_has_the_solvers_and_spacings(root, node):
    lines = (root/"nbs"/"play"/"ddim.js").read_text("utf-8").splitlines()
    assert len(lines) < 300 and max(map(len, lines)) <= 120
    names = node("names")
    assert set(names["spacings"]) == set(SPACINGS)
    assert {"ddim", "ddpm", "ab2", "ab3", "heun", "dpmpp_2m"} <= set(names["solvers"]) <= set(SOLVERS)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_the_same(node, name):
    schedule = SCHEDULES[name]
    np.testing.assert_allclose(node("schedule", schedule=schedule.spec), schedule.alpha_bar.numpy(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_coefficients_are_the_same(node, name):
    schedule, runs = SCHEDULES[name], []
    for solver in node("names")["solvers"]:
        for spacing in SPACINGS:
            for S in (1, 2, 3, 5, 7, 20, 50):
                etas = (0., 0.3, 1.) if solver == "ddim" else (0.,)
                runs += [dict(S=S, solver=solver, spacing=spacing, eta=eta) for eta in etas]
    own = dict(S=[40, 17, 3, 0], spacing="trailing", eta=0.) # times of one's own
    runs += [dict(own, solver=solver) for solver in ("ddim", "dpmpp_2m", "ab3")]
    compared = 0
    for how, found in zip(runs, node("plans", schedule=schedule.spec, runs=runs), strict=True):
        wanted = steps_of(schedule, **how)
        assert [(s["t"], s["t_prev"]) for s in found] == [(s.t, s.t_prev) for s in wanted], how
        for mine, theirs in zip(found, wanted):
            numbers = [(mine[k], getattr(theirs, k)) for k in ("signal", "noise", "of_x0", "of_eps", "sigma")]
            assert len(mine["of_past"]) == len(theirs.of_past), how
            numbers += [pair for a, b in zip(mine["of_past"], theirs.of_past) for pair in zip(a, b)]
            for a, b in numbers: assert abs(a - b) <= 1e-12*max(1., abs(b)), (how, theirs)
            compared += len(numbers)
    assert compared > 10_000


@pytest.mark.parametrize("S", [1, 7, 50])
def test_sigma_hat_is_the_same(node, S):
    schedule = SCHEDULES["linear"]
    found, = node("plans", schedule=schedule.spec, runs=[dict(S=S, solver="ddim", variance="hat")])
    names = ("t", "t_prev", "signal", "noise", "of_x0", "of_eps", "sigma")
    wanted = [[getattr(step, name) for name in names] for step in plan_steps(schedule, S, variance="hat")]
    np.testing.assert_allclose([[step[name] for name in names] for step in found], wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp_2m", "heun", "ab3"])
def test_evaluations_are_counted_alike(node, solver):
    asked = list(range(1, 51))
    assert node("times", evaluations=asked, solver=solver) == [SOLVERS[solver].n_times(n) for n in asked]


def test_noise_is_pytorchs(node):
    images = [(0, 0), (0, 1), (1, 8), (12345, 4_000_000_000), (2**32, 3), (2**53 - 1, 0)]
    found = node("noise", images=[(str(seed), i) for seed, i in images], sizes=[1024, 3072, 16])
    for (seed, i), drawn in zip(images, found):
        g, = image_generators(seed, i, 1)
        for mine, shape in zip(drawn, [(1, 32, 32), (3, 32, 32), (1, 4, 4)]):
            wanted = randn((1, *shape), generator=[g]).flatten().numpy()
            assert np.abs(np.array(mine) - wanted).max() <= 1e-6


@pytest.mark.parametrize("seed, start, n, K", [(0, 0, 9, 10), (7, 3, 25, 10), (2**40, 95, 30, 10), (1, 5, 8, 3)])
def test_labels_are_spread_alike(node, seed, start, n, K):
    assert node("labels", seed=str(seed), start=start, n=n, K=K) == spread_labels(seed, start, n, K).tolist()


def test_slerp_and_pixels_are_the_same(node):
    a, b = randn((2, 1, 1, 64), generator=image_generators(3, 0, 2)).double().chunk(2)
    for w in (0, 0.25, 1):
        found = node("slerp", a=a.flatten().tolist(), b=b.flatten().tolist(), w=w)
        np.testing.assert_allclose(found, slerp(a.float(), b.float(), w).flatten(), atol=1e-6)
    x = torch.linspace(-1.1, 1.1, 5001)
    assert node("pixels", x=x.tolist()) == to_pixels(x).tolist()


def test_the_table_of_a_fitted_solver_runs(node):
    "Any list of coefficients runs: here a random one, with two past estimates."
    draw = np.random.default_rng(0)
    plan = plan_steps(SCHEDULES["linear"], 4)
    steps = [s._replace(of_x0=s.of_x0 + draw.normal()/9, of_past=tuple(map(tuple, draw.normal(size=(k, 2))/9)))
             for k, s in enumerate(plan)]
    x_T = randn((2, 1, 4, 4), generator=image_generators(5, 0, 2))
    wanted = last_x0(run_steps(formula, x_T, steps, clip=DATA_RANGE))
    found = node("run", seed="5", start=0, n=2, shape=[1, 4, 4], steps=[s._asdict() for s in steps], labels=None)
    np.testing.assert_allclose(found["x_0"], wanted.flatten(), atol=1e-5)


@pytest.mark.parametrize("S", [5, 8])
def test_the_file_of_a_fitted_solver_is_read(node, S):
    "The very file that ships: its moves, and its images with all the past estimates it asks for."
    solver, schedule = load_solver(weights_dir()/"solvers"/f"fashion_mnist_{S}.json"), SCHEDULES["linear"]
    file = read_json(weights_dir()/"solvers"/f"fashion_mnist_{S}.json")
    steps = node("fitted", schedule=schedule.spec, file=file)
    for mine, theirs in zip(steps, solver.plan([*solver.timesteps, -1], schedule), strict=True):
        for k in ("t", "t_prev", "of_x0", "of_eps", "sigma"): assert mine[k] == getattr(theirs, k)
        for k in ("signal", "noise"): assert abs(mine[k] - getattr(theirs, k)) <= 1e-12
        assert tuple(map(tuple, mine["of_past"])) == theirs.of_past
    x_T = randn((2, 1, 4, 4), generator=image_generators(5, 0, 2))
    wanted = last_x0(solver_trajectory(formula, x_T, schedule, S, solver=solver, clip=DATA_RANGE))
    found = node("run", seed="5", start=0, n=2, shape=[1, 4, 4], steps=steps, labels=None)
    np.testing.assert_allclose(found["x_0"], wanted.flatten(), atol=1e-5)


def test_another_file_is_no_solver(node):
    file = dict(kind="recipe", timesteps=[9], coefficients=[[[1, 0]]])
    with pytest.raises(AssertionError): node("fitted", schedule=SCHEDULES["linear"].spec, file=file)
    assert node("fitted", schedule=SCHEDULES["linear"].spec, file=file | dict(kind="slowddim solver"))[0]["t"] == 9


@pytest.mark.parametrize("eta", [0., 1.])
def test_fresh_noise_is_the_same(node, eta):
    schedule, shape = SCHEDULES["linear"], (1, 8, 8)
    own = image_generators(2, 4, 3)
    x_T = randn((3, *shape), generator=own)
    states = solver_trajectory(formula, x_T, schedule, 6, solver="ddim", eta=eta, clip=DATA_RANGE, generator=own)
    steps, = node("plans", schedule=schedule.spec, runs=[dict(S=6, solver="ddim", eta=eta)])
    found = node("run", seed="2", start=4, n=3, shape=shape, steps=steps, labels=None)
    np.testing.assert_allclose(found["x_0"], last_x0(states).flatten(), atol=1e-5)

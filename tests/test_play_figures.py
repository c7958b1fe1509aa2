"""The figures with a knob: what they draw is what the library computes, and their pages stand without JavaScript."""
import json
import re
import shutil
import subprocess

import nbformat
import numpy as np
import pytest
import torch

from slowddim.ddim import ddim_sample, ddim_step, plan_steps
from slowddim.oracle import GaussianOracle, MixtureOracle
from slowddim.schedule import as_timesteps, cosine_schedule, linear_schedule, sigmoid_schedule

PAGES = {"schedules": "api/2_sampling/01_schedule", "table1": "lessons/06_steps_and_noise",
         "trajectories": "lessons/07_sampling_is_an_ode"}
SCHEDULES = dict(linear=linear_schedule(), cosine=cosine_schedule(), sigmoid=sigmoid_schedule())
CENTRES, WIDTH = torch.tensor([-0.6, 0.5], dtype=torch.float64).reshape(2, 1, 1, 1), 0.12


@pytest.fixture(scope="module")
def node(root): # asks nbs/play/figures.js under node
    if shutil.which("node") is None: pytest.skip("needs node")
    def ask(what, schedule, **facts):
        asked = json.dumps(dict(what=what, folder=str(root/"nbs"/"play"), schedule=schedule.spec, **facts))
        run = subprocess.run(["node", root/"tests"/"figures.mjs"], input=asked, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-2000:]
        return json.loads(run.stdout)
    return ask


def test_they_are_short_and_stand_on_the_samplers_formulas(root):
    text = (root/"nbs"/"play"/"figures.js").read_text("utf-8")
    assert len(text.splitlines()) < 200 and max(map(len, text.splitlines())) <= 120
    assert re.findall(r'from "([^"]+)"', text) == ["./ddim.js"]
    assert "cumprod" not in text and "fetch(" not in text


@pytest.mark.parametrize("name", SCHEDULES)
def test_signal_to_noise_ratios(node, name):
    schedule, times = SCHEDULES[name], [0, 1, 10, 250, 500, 900, 998]
    wanted = [schedule.at(t)/(1 - schedule.at(t)) for t in times]
    np.testing.assert_allclose(node("snr", schedule, times=times), wanted, rtol=1e-9, atol=0)


def test_table_1_is_the_lessons(node, root):
    "The lesson's own function, run on the lesson's numbers."
    cells = nbformat.read(root/"nbs"/f"{PAGES['table1']}.ipynb", 4).cells
    scope = dict(plan_steps=plan_steps, linear_schedule=linear_schedule, np=np)
    exec(next(c.source for c in cells if "def ends_at" in c.source), scope)
    sizes, widths = [10, 20, 100, 1000], [0.02, 0.05, 0.3]
    found = node("table", linear_schedule(), sizes=sizes, widths=widths)
    wanted = [[[scope["ends_at"](S, *how, std=std) for std in widths] for S in sizes]
              for how in scope["noises"].values()]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_table_1_is_what_a_sampler_does(node):
    "Without noise the map is linear: two starts tell mean and standard deviation."
    schedule = linear_schedule()
    oracle, x_T = GaussianOracle(schedule, mean=0.3, std=0.05), torch.tensor([0., 1.]).double().reshape(2, 1, 1, 1)
    a, b = ddim_sample(oracle, x_T, schedule, 20, spacing="leading").flatten().tolist()
    found = node("table", schedule, sizes=[20], widths=[0.05])[0][0][0]
    np.testing.assert_allclose(found, [a, abs(b - a)], rtol=1e-9)


def test_the_mixtures_noise(node):
    schedule, xs, times = linear_schedule(), [-3., -0.6, -0.05, 0., 0.4, 2.], [0, 20, 300, 999]
    oracle, x = MixtureOracle(schedule, CENTRES, WIDTH), torch.tensor(xs, dtype=torch.float64).reshape(-1, 1, 1, 1)
    wanted = [oracle(x, torch.tensor(t)).flatten().tolist() for t in times]
    np.testing.assert_allclose(node("eps", schedule, xs=xs, times=times), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("S, eta", [(10, 0.), (50, 0.), (10, 1.), (50, 0.3)])
def test_trajectories(node, S, eta):
    schedule, starts = linear_schedule(), np.linspace(-2, 2, 12)
    z = np.random.default_rng(0).normal(size=(S, 12))
    oracle, x = MixtureOracle(schedule, CENTRES, WIDTH), torch.tensor(starts).reshape(12, 1, 1, 1)
    path, wanted = [*as_timesteps(S, schedule), -1], [starts]
    for t, t_prev, noise in zip(path, path[1:], z):
        noise = torch.tensor(noise).reshape(12, 1, 1, 1) if eta and t_prev >= 0 else None
        how = dict(t=t, t_prev=t_prev, schedule=schedule, eta=eta, noise=noise)
        x = ddim_step(x, oracle(x, torch.tensor(t)), **how).x_prev
        wanted.append(x.flatten().numpy())
    times, found = node("paths", schedule, starts=starts.tolist(), S=S, eta=eta, z=z.tolist())
    assert times == [999, *path[1:]]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_stands_without_them(root, name):
    "Each is hidden until it is drawn, has words, and comes after a figure that is there on paper."
    file = root/"nbs"/f"{PAGES[name]}.ipynb"
    cells = nbformat.read(file, 4).cells
    at = next(k for k, c in enumerate(cells) if f'data-figure="{name}"' in c.source)
    assert re.search(r'<figure data-figure="\w+" aria-label="[^"]{10,}" hidden></figure>', cells[at].source)
    module = re.search(r'import\("([^"]+)"\)', cells[at].source)[1]
    assert (file.parent/module).resolve() == root/"nbs"/"play"/"figures.js"
    before = [o for c in cells[at - 2:at] if c.cell_type == "code" for o in c.outputs]
    assert any("image/png" in o.get("data", {}) for o in before)

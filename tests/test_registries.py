"One more solver, schedule, spacing, prediction or data set is one entry: known by name wherever that kind is accepted."
import pytest
import torch

from slowddim.cli import parse_args
from slowddim.data import DATA, ImageSet, load_data
from slowddim.ddim import ddim_coefficients, ddim_sample
from slowddim.generate import sample_images
from slowddim.noising import PREDICTIONS, NoisePredictor, from_eps
from slowddim.ode import ode_sample, ode_solvers
from slowddim.oracle import CallCounter, GaussianOracle
from slowddim.presets import PRESETS, Preset, build_model, open_preset
from slowddim.pretrained import load_pretrained, save_pretrained
from slowddim.schedule import SCHEDULES, SPACINGS, as_timesteps, tabulate
from slowddim.steps import SOLVERS


@pytest.fixture
def entries(): # registries, restored afterwards
    kept = {id(r): (r, dict(r)) for r in (DATA, PREDICTIONS, PRESETS, SCHEDULES, SOLVERS, SPACINGS)}
    yield
    for registry, before in kept.values():
        registry.clear()
        registry.update(before)


def test_a_solver(entries, schedule):
    @SOLVERS.add("twice", evaluations=lambda S: 2*S)
    def twice(path, i, schedule): return [ddim_coefficients(path[i], path[i + 1], schedule)._replace(t=path[i])]*2

    assert "twice" in ode_solvers() and SOLVERS["twice"].n_times(20) == 10
    model = CallCounter(GaussianOracle(schedule))
    sample_images(model, schedule, 2, 5, shape=(1, 4, 4), solver="twice", progress=False)
    assert model.n_calls == SOLVERS["twice"].evaluations(5)
    with pytest.raises(ValueError, match="'twice'"): ode_sample(model, torch.zeros(1, 1), schedule, solver="thrice")


def test_a_schedule(entries, tmp_path):
    @SCHEDULES.add("quartic")
    def quartic(n_steps=1000):
        return tabulate(lambda u: (1 - u)**4, n_steps, spec=dict(kind="quartic", n_steps=n_steps))

    small = dict(widths=(32, 32), unconditional=True)
    model, schedule = build_model(load_data("digits"), schedule="quartic", n_steps=50, **small)
    assert schedule == quartic(50)
    save_pretrained(model, schedule, tmp_path/"model")
    assert load_pretrained(str(tmp_path/"model"))[1] == schedule


def test_a_spacing(entries, schedule):
    @SPACINGS.add("last")
    def last(T, S, schedule): return list(range(S - 1, -1, -1))

    assert as_timesteps(3, schedule, "last") == [2, 1, 0]
    x_T = torch.randn(2, 3)
    expected = ddim_sample(GaussianOracle(schedule), x_T, schedule, [2, 1, 0])
    assert torch.equal(ddim_sample(GaussianOracle(schedule), x_T, schedule, 3, spacing="last"), expected)


def test_a_prediction(entries, schedule):
    @PREDICTIONS.add("half", make=lambda x_0, eps, signal, noise: eps/2, needs_signal=True)
    def read_half(half, x_t, signal, noise): return (x_t - noise*2*half)/signal, 2*half

    model = GaussianOracle(schedule, 0.3, 0.25)
    halves = NoisePredictor(lambda x, t: from_eps(model(x, t), x, t, schedule, "half"), schedule, "half")
    x_T = torch.randn(4, 1, dtype=torch.float64)
    torch.testing.assert_close(ddim_sample(halves, x_T, schedule, 10), ddim_sample(model, x_T, schedule, 10))


def test_a_data_set(entries):
    @DATA.add("bars")
    def bars(split, path=None):
        images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
        images[::2, :, 3:5], images[1::2, :, :, 3:5] = 255, 255
        return ImageSet("bars", split, images, torch.arange(6) % 2, ("lying", "upright"))

    data = load_data("bars", classes=["upright"])
    assert len(data) == 3
    model, _ = build_model(load_data("bars"), widths=(32, 32))
    assert model.config.class_names == ["lying", "upright"]
    with pytest.raises(ValueError, match="'bars'"): load_data("barz")
    with pytest.raises(ValueError, match="path is for fashion_mnist, mnist, cifar10"): load_data("bars", path="here")


def test_a_preset(entries):
    mine = Preset("digits", dict(widths=(32, 32), prediction="x_0"), dict(epochs=2, lr=1e-3), dict(classes=["3", "5"]))
    PRESETS["mine"] = mine
    args = parse_args(["train", "--preset", "mine", "--lr", "0.5"])
    assert (args.data, args.widths, args.epochs, args.lr, args.prediction) == ("digits", (32, 32), 2, 0.5, "x_0")
    for name in ("mine", mine):
        model, _, data, how = open_preset(name, lr=0.5, prediction="eps")
        assert data.classes == ("3", "5") and model.config.class_names == ["3", "5"]
        assert how == dict(n_epochs=2, lr=0.5) and model.config.prediction == "eps"


def test_names_are_taken_once(entries):
    with pytest.raises(ValueError, match="registered already"): SOLVERS.add("heun")(lambda path, i, schedule: [])
    def twice(path, i, schedule): return []
    for _ in range(2): SOLVERS.add("twice")(twice) # a cell that is run again
    assert SOLVERS["twice"].steps is twice

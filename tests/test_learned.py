"Fitted solvers: what they reach, whom they belong to, files that are not trusted. One network under three names."
import json

import numpy as np
import pytest
import torch

from slowddim.cli import main
from slowddim.continuous import as_velocity, from_velocity
from slowddim.ddim import ddim_coefficients, ddim_sample
from slowddim.files import weights_dir
from slowddim.generate import sample_images, sample_to_npz
from slowddim.guidance import guided
from slowddim.learned import FittedSolver, _regress, _solve, fit_solver, load_solver, save_solver, shipped_solver
from slowddim.ode import ode_sample, ode_trajectory
from slowddim.oracle import CallCounter, GaussianOracle, MixtureOracle, gaussian_flow
from slowddim.pretrained import load_pretrained, save_pretrained
from slowddim.schedule import as_timesteps, cosine_schedule, linear_schedule, zero_terminal_snr
from slowddim.steps import Solver, run_steps
from slowddim.unet import UNet

SCHEDULE = linear_schedule()
TINY = dict(shape=(1, 2, 2), dtype=torch.float64, clip=None, n=6, held_out=4)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(): return MixtureOracle(SCHEDULE, torch.linspace(-0.8, 0.8, 12).double().reshape(3, 1, 2, 2), 0.2)


@pytest.fixture(scope="module")
def small(): # a network with weights, and a solver fitted to it
    torch.manual_seed(0)
    net = UNet(sample_size=8, widths=(32, 32), patch_size=1)
    return net, fit_solver(net, SCHEDULE, 4, n=4, held_out=2, refine=2, ridge=1e-2)


@pytest.mark.parametrize("prior", ["ddim", "ab2", "dpmpp_2m"])
@pytest.mark.parametrize("timesteps", [1, 4, [950, 400, 390, 20]])
@pytest.mark.parametrize("mean, std", [(0., 0.5), (-0.4, 0.1), (0.2, 1.7)])
def test_gaussian_data_are_reached_exactly(mean, std, timesteps, prior):
    oracle = GaussianOracle(SCHEDULE, mean, std)
    def exact(path, i, schedule): # the exact flow in x_0 and eps, through two points
        step, x = ddim_coefficients(path[i], path[i + 1], schedule), torch.tensor([[[[0.7]]], [[[-1.1]]]]).double()
        eps = oracle(x, torch.tensor(path[i]))
        both = torch.stack([((x - step.noise*eps)/step.signal).flatten(), eps.flatten()], 1)
        there = gaussian_flow(oracle, x, path[i], path[i + 1]).flatten()
        of_x0, of_eps = torch.linalg.lstsq(both, there[:, None], driver="gelsd").solution.flatten().tolist()
        return [step._replace(of_x0=of_x0, of_eps=of_eps)]
    solver = fit_solver(oracle, SCHEDULE, timesteps, teacher=Solver("exact", exact), prior=prior, ridge=0., **TINY)
    x_T = noise(50, 1, 2, 2)
    states = list(ode_trajectory(oracle, x_T, SCHEDULE, timesteps, solver=solver))
    assert len(states) == len(as_timesteps(timesteps, SCHEDULE))
    for state in states:
        answer = gaussian_flow(oracle, x_T, states[0].t, state.t_prev)
        assert (state.x_prev - answer).abs().max() < 1e-6
    assert torch.equal(states[-1].x_0, states[-1].x_prev)
    assert (ode_sample(oracle, x_T, SCHEDULE, timesteps) - answer).abs().max() > 1e-3 # the check can fail


@pytest.mark.parametrize("ridge", [0., 1e-4, 0.3])
def test_the_regression_is_that_of_a_textbook(ridge):
    features, residual = [noise(5, 1, 3, 3, seed=k) for k in range(4)], noise(5, 1, 3, 3, seed=9)
    A, b = np.stack([f.flatten().numpy() for f in features], 1), residual.flatten().numpy()
    below = np.diag((ridge*(A*A).sum(0))**0.5) # a ridge as rows of its own
    wanted = np.linalg.lstsq(np.concatenate([A, below]), np.concatenate([b, np.zeros(4)]), rcond=None)[0]
    np.testing.assert_allclose(_solve(*_regress(features, residual), ridge), wanted, rtol=1e-9, atol=1e-12)


def test_fitted_is_nearer_than_what_it_began_with():
    for grid in (False, True):
        solver = fit_solver(mixture(), SCHEDULE, 4, **TINY | dict(n=100, held_out=100), grid=grid)
        errors = solver.facts["held_out"]
        assert solver.is_better and errors["fitted"] < 0.7*errors["dpmpp_2m"] < errors["ddim"]
        x_T = noise(300, 1, 2, 2, seed=5) # seen by nobody
        answer = ode_sample(mixture(), x_T, SCHEDULE, 200)
        off = [(ode_sample(mixture(), x_T, SCHEDULE, solver.timesteps, solver=s) - answer).square().mean()
               for s in (solver, "dpmpp_2m")]
        assert off[0] < 0.8*off[1]
    assert solver.timesteps[0] == 999 and solver.timesteps != as_timesteps(4, SCHEDULE)


def test_a_fit_repeats_costs_what_it_says_and_changes_nothing(small):
    net, solver = small
    net.train()
    state, counter = torch.get_rng_state(), CallCounter(mixture())
    again = fit_solver(net, SCHEDULE, 4, n=4, held_out=2, refine=2, ridge=1e-2, batch_size=3)
    assert net.training and torch.equal(state, torch.get_rng_state())
    for a, b in zip(again.coefficients, solver.coefficients): torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    fit_solver(counter, SCHEDULE, 4, refine=5, **TINY)
    assert sum(counter.rows) == (6 + 4)*20 + 6*4 + 3*4*4


def test_a_clipped_run_ends_in_range(small):
    net, solver = small
    states = list(ode_trajectory(net, torch.randn(3, 1, 8, 8), SCHEDULE, 4, solver=solver, clip=0.5))
    assert states[-1].x_0.abs().max() <= 0.5 and torch.equal(states[-1].x_0, states[-1].x_prev.clamp(-0.5, 0.5))
    x = torch.randn(3, 1, 8, 8) # other solvers end at the predicted image, as before
    last = list(run_steps(net, x, [ddim_coefficients(500, -1, SCHEDULE)], clip=(-1., 1.)))[-1]
    assert torch.equal(last.x_0, last.x_prev)


def test_another_network_guidance_times_or_schedule(small, tmp_path):
    net, solver = small
    torch.manual_seed(1)
    other = UNet(sample_size=8, widths=(32, 32), patch_size=1)
    images = sample_images(net, SCHEDULE, 5, 4, solver=solver, progress=False)
    how = dict(solver=solver, progress=False)
    assert torch.equal(images[3:], sample_images(net, SCHEDULE, 2, 4, start=3, batch_size=1, **how))
    for model, timesteps, schedule, said in (
            (other, 4, SCHEDULE, f"fitted to the network {solver.facts['network']}, got "),
            (net, 5, SCHEDULE, r"fitted to timesteps \[999, 749, 499, 249\], got \[999, 799"),
            (net, 4, linear_schedule(beta_max=0.01), f"fitted to the schedule {solver.facts['schedule']}, got ")):
        with pytest.raises(ValueError, match=said): sample_images(model, schedule, 2, timesteps, **how)
        with pytest.raises(ValueError, match=said):
            sample_to_npz(tmp_path/"x.npz", model, schedule, 2, timesteps, **how)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="fitted to guidance 1, got 3"): solver.check(net, 3.)


def test_a_guided_network_is_fitted_under_its_scale():
    data = MixtureOracle(SCHEDULE, torch.tensor([-0.6, 0.5]).double().reshape(2, 1, 1, 1), 0.15)
    how = dict(shape=(1, 1, 1), dtype=torch.float64, clip=None, n=40, held_out=10)
    labels = torch.arange(50) % 2
    whole = fit_solver(guided(data, labels, 2.), SCHEDULE, 4, **how)
    parts = fit_solver(guided(data, labels, 2.), SCHEDULE, 4, batch_size=7, **how)
    assert whole.facts["guidance"] == 2. and whole.is_better
    for a, b in zip(whole.coefficients, parts.coefficients): np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_file_gives_back_what_was_fitted(small, tmp_path):
    net, solver = small
    again = load_solver(save_solver(solver, tmp_path/"s.json"), net)
    assert isinstance(again, FittedSolver) and again.name == solver.name and again.timesteps == solver.timesteps
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(*(ode_sample(net, x, SCHEDULE, 4, solver=s) for s in (solver, again)))
    with pytest.raises(ValueError, match="guidance 1, got 2"): load_solver(tmp_path/"s.json", net, 2.)


@pytest.mark.parametrize("changed", [
    dict(kind="x"), dict(timesteps=[]), dict(timesteps="999"), dict(timesteps=[1, 2, 3, 4]),
    dict(timesteps=[3, 2, 1, -1]),
    dict(timesteps=[3, 2, 1.5, 1]), dict(timesteps=[9, 8, 7]), dict(coefficients=None), dict(coefficients=[[]]*4),
    dict(coefficients=[[[1., float("nan")]]]*4), dict(coefficients=[[[1., float("inf")]]]*4),
    dict(coefficients=[[[1.]]]*4),
    dict(coefficients=[[[1., "x"]]]*4), dict(coefficients=[[[1., 0.]]*2]*4), dict(network=3), dict(schedule=None),
    dict(guidance=-1), dict(guidance="x"), dict(held_out=3)])
def test_hostile_files(small, tmp_path, changed):
    file = save_solver(small[1], tmp_path/"s.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ValueError, match="holds no fitted solver"): load_solver(file)


def test_no_file_or_no_json(tmp_path):
    with pytest.raises(FileNotFoundError): load_solver(tmp_path/"none.json")
    (tmp_path/"s.json").write_text("[1")
    with pytest.raises(ValueError, match="not valid JSON"): load_solver(tmp_path/"s.json")
    with pytest.raises(TypeError, match="FittedSolver"): save_solver("ddim", tmp_path/"t.json")


@pytest.mark.parametrize("wrong, said", [
    (dict(n=0), "n must be"), (dict(held_out=0), "held_out must be"), (dict(refine=1), "refine must be"),
    (dict(ridge=-1.), "ridge must be"), (dict(ridge=float("nan")), "ridge must be"), (dict(prior="heun"), "prior must"),
    (dict(prior="ab3"), "prior must"), (dict(teacher="ddpm"), "solver must be"), (dict(seed=-1), "seed must be"),
    (dict(batch_size=0), "batch_size must be")])
def test_what_a_fit_refuses(wrong, said):
    counter = CallCounter(mixture())
    with pytest.raises(ValueError, match=said): fit_solver(counter, SCHEDULE, 4, **TINY | wrong)
    assert counter.n_calls == 0


def test_the_solvers_that_ship():
    files = sorted((weights_dir()/"solvers").glob("*.json"))
    assert sum(f.stat().st_size for f in files) < 40_000
    model, schedule = load_pretrained("fashion_mnist", device="cpu")
    for file in files:
        solver = load_solver(file, model)
        timesteps = as_timesteps(len(solver.timesteps), schedule)
        assert solver.is_better and shipped_solver(model, timesteps).name == solver.name
        assert solver.facts["seed"] != 0 # that of samples and scores
    assert shipped_solver(model, as_timesteps(5, schedule), guidance=2.) is None


def scored(fitted, usual): # a solver with FIDs that somebody measured
    facts = dict(network=None, guidance=1., schedule="x", held_out=dict(fitted=1., dpmpp_2m=2.))
    return FittedSolver([999, 499], [[(1., 0.)]]*2, facts | dict(fid=dict(n=64, fitted=fitted, dpmpp_2m=usual)))


@pytest.mark.parametrize("fitted, usual, lower", [([1., 0.9, 1.1], [1.4, 1.2, 1.6], True),
                                                  ([1., 0.9, 1.3], [1.4, 1.2, 1.6], False), # they overlap
                                                  ([1.4, 1.2, 1.6], [1., 0.9, 1.1], False)])
def test_only_a_lower_fid_makes_a_default(fitted, usual, lower, tmp_path):
    solver = scored(fitted, usual)
    assert solver.is_better and solver.lowers_fid is lower
    assert load_solver(save_solver(solver, tmp_path/"s.json")).lowers_fid is lower
    assert not FittedSolver(solver.timesteps, solver.coefficients, {}).lowers_fid


@pytest.mark.parametrize("fid, said", [([1.], "FIDs by name"), (dict(fitted=1.), "a value and its interval"),
                                       (dict(dpmpp_2m=[1., 2.]), "a value and its interval"),
                                       (dict(fitted=[1., 0., float("nan")]), "fid of fitted"),
                                       (dict(fitted=[1., "0", 2.]), "fid of fitted")])
def test_a_file_with_a_wrong_fid_is_refused(fid, said, tmp_path):
    file = save_solver(scored([1.]*3, [1.]*3), tmp_path/"s.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(fid=fid)))
    with pytest.raises(ValueError, match=said): load_solver(file)


def test_on_the_command_line(small, tmp_path, capsys):
    torch.manual_seed(1)
    for name, net in (("m", small[0]), ("other", UNet(sample_size=8, widths=(32, 32), patch_size=1))):
        save_pretrained(net, SCHEDULE, tmp_path/name, {})
    file, m = tmp_path/"s.json", str(tmp_path/"m")
    fit = ["fit-solver", "--model", m, "--n", "3", "--held-out", "2", "--teacher-steps", "8", "--quiet"]
    assert main([*fit, "--steps", "4", "--out", str(file)]) == 0
    assert "kept out" in capsys.readouterr().out
    sample = ["sample", "--n", "2", "--quiet", "--solver", str(file), "--out", str(tmp_path/"a.npz")]
    assert main([*sample, "--model", m]) == 0 and "4 steps each" in capsys.readouterr().out
    with np.load(tmp_path/"a.npz") as found: images = torch.tensor(found["arr_0"])
    net, schedule = load_pretrained(m, device="cpu")
    assert torch.equal(images, sample_images(net, schedule, 2, 4, solver=load_solver(file, net), progress=False))
    for more, said in ((["--model", str(tmp_path/"other")], "fitted to the network"),
                       (["--model", m, "--steps", "5"], "fitted to timesteps [999, 749, 499, 249]"),
                       (["--model", m, "--steps", "4", "--spacing", "leading"], "fitted to timesteps"),
                       (["--model", m, "--solver", "fitted"], "no fitted solver ships"),
                       (["--model", m, "--solver", "euler"], "must be one of")):
        assert main([*sample, *more]) == 2
        assert said in capsys.readouterr().err, said


def test_the_command_line_takes_what_ships_where_it_was_fitted(tmp_path):
    model, schedule = load_pretrained("fashion_mnist", device="cpu")
    shipped = shipped_solver(model, as_timesteps(5, schedule))
    if shipped is None: pytest.skip("the network has been trained again since: make solvers")
    usual = shipped if shipped.lowers_fid else None
    for told, solver in (([], usual), (["--solver", "fitted"], shipped), (["--spacing", "leading"], None)):
        assert main(["sample", "--n", "1", "--steps", "5", "--quiet", "--out", str(tmp_path/"x.npz"), *told]) == 0
        with np.load(tmp_path/"x.npz") as found: images = torch.tensor(found["arr_0"])
        spacing = "leading" if "leading" in told else "trailing"
        wanted = sample_images(model, schedule, 1, 5, solver=solver, spacing=spacing, progress=False)
        assert torch.equal(images, wanted), told


def bent(x, t): return torch.sin(3*x + 0.01*t.reshape(-1, 1, 1, 1)) # a network that is nobody's


@pytest.mark.parametrize("schedule", [SCHEDULE, cosine_schedule()], ids=["linear", "cosine"])
@pytest.mark.parametrize("model", [bent, mixture()], ids=["bent", "mixture"])
@pytest.mark.parametrize("timesteps", [1, 7, [998, 500, 499, 3]])
def test_euler_in_flow_time_is_ddim(schedule, model, timesteps):
    times, x_T = as_timesteps(timesteps, schedule), noise(4, 1, 2, 2)
    if isinstance(model, MixtureOracle): model = MixtureOracle(schedule, model.means, 0.2)
    signal, rest = (v[times] for v in (schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()))
    taus, velocity = [*(rest/(signal + rest)).tolist(), 0.], as_velocity(model, schedule)
    x = x_T/(signal + rest)[0]
    for tau, after in zip(taus, taus[1:]): x = x + (after - tau)*velocity(x, torch.full((4,), tau).double())
    wanted = ddim_sample(model, x_T, schedule, times)
    assert (x - wanted).abs().max() < 1e-10*max(1., wanted.abs().max().item())


def test_there_and_back_and_refusals():
    again, t = from_velocity(as_velocity(bent, SCHEDULE, 1000.), SCHEDULE, 1000.), torch.arange(0, 1000, 111)
    x = noise(len(t), 1, 2, 2)
    assert (again(x, t) - bent(x, t)).abs().max() < 1e-10
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 500"): as_velocity(bent, SCHEDULE)(x, 500.)
    with pytest.raises(ValueError, match="keep some signal"): as_velocity(bent, zero_terminal_snr(SCHEDULE))
    asked = []
    def labelled(x, t, class_labels): # labels are passed on
        asked.append(class_labels)
        return bent(x, t)
    from_velocity(as_velocity(labelled, SCHEDULE), SCHEDULE)(x, t, class_labels=t)
    assert torch.equal(asked[0], t)

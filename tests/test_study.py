"Studies: tables survive interruptions, and what the committed ones say still holds."
import json
import math
import shlex
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from types import SimpleNamespace

import pytest
import torch
from conftest import needs_data

from slowddim import cli, generate, study
from slowddim.data import ImageSet
from slowddim.fast import fast_copy
from slowddim.generate import DEFAULT_SOLVER
from slowddim.oracle import GaussianOracle
from slowddim.pretrained import load_pretrained
from slowddim.studies import _parser
from slowddim.study import Setup, fill_table, mean_and_interval, table_rows
from slowddim.tables import STUDIES
from slowddim.files import read_json


COMMANDS = dict( # of files that were begun by a script, before their study had a command
    networks=("python tools/compare_recipes.py --what networks", "slowddim table networks", "slowddim table speeds"),
    speeds=("python tools/compare_recipes.py --what networks", "slowddim table networks", "slowddim table speeds"))


def rows_of(name, **wanted): # rows of a committed table, of the shipped model alone
    return table_rows(f"{name}_fashion_mnist", digest=load_pretrained()[0].card["digest"], **wanted)


def test_a_table_resumes_after_a_crash_and_keeps_other_rows(tmp_path):
    file, done, cuts = tmp_path/"t.json", [], ["now"]
    def measure(cell):
        if cell["x"] == 2 and cuts: raise RuntimeError("power cut" + cuts.pop())
        done.append(cell["x"])
        return dict(y=2*cell["x"])
    with pytest.raises(RuntimeError):
        fill_table(file, [dict(x=x) for x in (0, 1, 2)], measure, command="c", progress=False)
    assert [r["y"] for r in read_json(file)["rows"]] == [0, 2] and not list(tmp_path.glob(".*"))
    rows = fill_table(file, [dict(x=x) for x in (2, 0)], measure, command="c", progress=False)
    assert [r["y"] for r in rows] == [4, 0] and done == [0, 1, 2]
    assert [r["x"] for r in read_json(file)["rows"]] == [0, 1, 2]


def test_two_processes_fill_one_table(tmp_path):
    file = tmp_path/"t.json"
    def outer(cell): # while this row is measured, somebody else adds one
        if cell["x"] == 0: fill_table(file, [dict(x=1)], lambda cell: dict(y=1), command="other", progress=False)
        return dict(y=0)
    rows = fill_table(file, [dict(x=0), dict(x=1)], outer, command="one", progress=False)
    assert [r["y"] for r in rows] == [0, 1] and len(read_json(file)["rows"]) == 2
    assert read_json(file)["commands"] == ["one", "other"]


def test_a_broken_table_is_named(tmp_path):
    (tmp_path/"t.json").write_text("{")
    with pytest.raises(ValueError, match=r"t\.json is not valid JSON"):
        fill_table(tmp_path/"t.json", [dict(x=1)], dict, command="c", progress=False)


def test_interval_covers_the_mean():
    g = torch.Generator().manual_seed(0)
    hits = sum(lo < 3 < hi for _, (lo, hi) in (mean_and_interval(3 + torch.randn(50, generator=g)) for _ in range(400)))
    assert 0.9 < hits/400 < 0.99


def test_reconstruction_rows_on_an_oracle(schedule):
    model, x_0 = GaussianOracle(schedule, 0.3, 0.25), 0.3 + 0.25*torch.randn(50, 1, 2, 2)
    model.card, model.config = dict(digest="oracle"), SimpleNamespace(in_channels=1, sample_size=2)
    pixels = x_0.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    setup = Setup(model, schedule, images=ImageSet("oracle", "test", pixels, torch.zeros(50).long(), ("noise",)))
    table = STUDIES["reconstruction"]
    rows = [row | table.measure(setup, row) for row in table.plan(setup, steps=(10, 50), n=50)]
    error = {(r["guess"], r["refine"], r["S"]): r["mse"] for r in rows}
    assert error["paper", 0, 50]/error["paper", 3, 50] > 100 and error["last", 1, 50] < error["paper", 0, 50]/20
    assert all(r["interval"][0] < r["mse"] < r["interval"][1] for r in rows)


def test_a_compiled_network_fills_a_table(tmp_path, monkeypatch):
    "Its rows say so and lie beside those in float32; here with a backend that compiles nothing, to be quick."
    monkeypatch.setattr(generate, "fast_copy", partial(fast_copy, backend="eager"))
    line = f"table solvers --n 130 --steps 2 --solvers ddim --quiet --out {tmp_path/'t.json'}"
    for precision in ("compiled", "fp32"): cli.main([*line.split(), "--precision", precision])
    compiled, exact = json.loads((tmp_path/"t.json").read_text())["rows"]
    assert compiled["arithmetic"] == "compiled" and "arithmetic" not in exact
    assert compiled["fid"]["value"] == pytest.approx(exact["fid"]["value"], rel=0.02)


def test_table_2_is_complete_and_falls():
    rows = rows_of("reconstruction", data="fashion_mnist/test")
    table = {(r["guess"], r["refine"], r["S"]): r for r in rows}
    sizes = (10, 20, 50, 100, 200, 500, 1000)
    for refine in range(4):
        for S in sizes: assert table["paper", refine, S]["n"] >= (200 if S <= 200 else 50)
    for way in [("paper", 0), ("paper", 1), ("last", 1)]:
        errors = [table[(*way, S)]["mse"] for S in sizes if (*way, S) in table]
        assert errors == sorted(errors, reverse=True) and len(errors) >= 5
    for S in sizes: assert table["paper", 3, S]["mse"] < table["paper", 1, S]["mse"] < table["paper", 0, S]["mse"]
    for S in sizes[:5]: assert table["last", 1, S]["calls"] == table["paper", 0, S]["calls"] + 1


def test_the_default_solver_follows_the_measurement():
    rows = rows_of("solvers", n=10_000, spacing="trailing")
    tens = {r["solver"]: r["fid"] for r in rows if 9 <= r["calls"] <= 10}
    best, ddim = tens[DEFAULT_SOLVER], tens["ddim"]
    assert best["value"] < ddim["value"]/1.3 and best["interval"][1] < ddim["interval"][0]


def test_ten_good_calls_are_near_a_thousand_steps():
    best = {r["calls"]: r["excess"] for r in rows_of("solvers", n=10_000, spacing="trailing", solver=DEFAULT_SOLVER)}
    before = load_pretrained()[0].card["init"] # the weights shipped before these
    first, = table_rows("solvers_fashion_mnist_first", digest=before, n=10_000, calls=50)
    assert best[50] <= first["excess"]/2 and best[10] <= first["excess"]
    ddim, = rows_of("eta", S=1000, eta=0., spacing="leading")
    dice, = rows_of("steps", S=1000, eta=1.)
    assert best[10] <= 1.5*min(ddim["excess"], dice["excess"])


def test_the_order_of_table_1_on_record():
    def limits(row): return [end - row["fid"]["floor"] for end in row["fid"]["interval"]] # of the excess
    table = {(r["variance"], r["eta"], r["S"]): r for r in rows_of("eta", spacing="leading")}
    least = {10: 5000, 20: 5000, 50: 5000, 100: 2048}
    for S, n in least.items():
        for eta in (0., 0.2, 0.5, 1.): assert table["posterior", eta, S]["n"] >= n
        assert table["hat", 1., S]["excess"] > max(table["posterior", eta, S]["excess"] for eta in (0., 0.2, 0.5, 1.))
    assert limits(table["posterior", 1., 10])[0] > limits(table["posterior", 0., 10])[1]
    for S in (50, 100): assert limits(table["posterior", 1., S])[1] < limits(table["posterior", 0., S])[0]
    jump = {(r["variance"], r["eta"], r["S"]): r for r in rows_of("eta", spacing="trailing")}
    for S in (10, 20, 50): assert jump["hat", 1., S]["excess"] < 0.6*table["hat", 1., S]["excess"]


def test_consistency_on_record():
    alike = {r["eta"]: r for r in rows_of("consistency", few=20, many=1000)}
    assert alike[0.]["n"] >= 100 and alike[0.]["interval"][0] > 0.9 > alike[1.]["interval"][1]
    assert alike[1.]["cosine"] - alike[1.]["unrelated"] < (alike[0.]["cosine"] - alike[0.]["unrelated"])/2


def test_committed_tables_say_how_they_were_made(root):
    there = {name: root/table.path() for name, table in STUDIES.items() if (root/table.path()).is_file()}
    assert {"reconstruction", "solvers", "consistency", "recipes", "complexity", "components"} <= set(there)
    for name, file in there.items():
        table = json.loads(file.read_text())
        assert table["commands"] and table["machine"]["torch"]
        assert all(c.startswith(COMMANDS.get(name, f"slowddim table {name}")) for c in table["commands"])
        assert all(r["seconds"] > 0 and math.isfinite(r["seconds"]) for r in table["rows"])


@cache
def opened(name, model): return STUDIES[name].open(model, device="cpu")


@needs_data
@pytest.mark.parametrize("name", STUDIES)
def test_committed_rows_are_found_by_what_their_commands_plan(root, name):
    "Settings of old rows may never change: each row that is about a model of the repository is planned again."
    table, n_found = STUDIES[name], 0
    for file in sorted((root/"results").glob("*.json")):
        content = read_json(file)
        commands = [c for c in content.get("commands", ()) if c.startswith(f"slowddim table {name} ")
                    or c == f"slowddim table {name}"]
        planned = []
        for command in commands:
            own = _parser(table).parse_args(shlex.split(command)[3:])
            options = {k: getattr(own, k) for k in table.options() if k in own}
            model = own.model if table.model else "fashion_mnist"
            if model.startswith("checkpoints"): continue # trained by make, not in the repository
            where = str(root/model) if (root/model).is_dir() else model
            setup = replace(opened(name, where), arithmetic=own.precision if table.model else "fp32")
            planned += table.plan(setup, **options)
        digests = {row.get("digest") for row in planned}
        rows = [row for row in content.get("rows", ()) if planned and row.get("digest") in digests]
        for row in rows:
            assert any(wanted.items() <= row.items() for wanted in planned), (file.name, row)
        n_found += len(rows)
    assert n_found or not any((root/"results").glob(f"{table.file.format(name=name, model='*')}.json"))


def test_rows_of_networks_that_a_script_began_are_found():
    old = dict(recipe="labels, Muon", args="--data fashion_mnist --seed 0 --prediction v --weighting v "
               "--lognormal -0.5 1.4 --bs 32 --lr 7e-4 --optimizer muon", tflop=8.0, n=1024, n_scores=1, device="cpu",
               extractor="e37274dcb086")
    table, setup = STUDIES["networks"], STUDIES["networks"].open(device="cpu")
    assert old in table.plan(setup, tflop=8, n=1024, n_scores=1) and "--tflop 8 --n 1024 --n-scores 1" in table.runs


def test_every_command_of_a_study_is_understood():
    for name, table in STUDIES.items():
        assert table.runs, f"{name}: no command makes its table"
        for line in filter(None, (*table.runs, table.quick)): _parser(table).parse_args(shlex.split(line))


def test_commands_for_make(capsys):
    assert cli.main(["table", "--commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(len(table.runs) for table in STUDIES.values()) and "slowddim table consistency" in lines
    assert cli.main(["table", "--commands", "quick"]) == 0
    quick = capsys.readouterr().out.splitlines()
    assert "slowddim table solvers --n 256 --steps 6 --out results/quick/solvers.json" in quick


def test_a_study_is_one_function_and_a_command(tmp_path, capsys):
    @STUDIES.add("powers", help="powers of numbers", model=False, shown=dict(base=None, found=1),
                 defaults=dict(base=(2, 3), power=2, inverse=False))
    def measure(setup, row): return dict(found=row["base"]**(-row["power"] if row["inverse"] else row["power"]))
    try:
        line = ["table", "powers", "--quiet", "--out", str(tmp_path/"p.json")]
        assert cli.main([*line, "--power", "3"]) == 0
        assert "|    3 |  27.0 |" in capsys.readouterr().out
        assert cli.main([*line, "--base", "4", "--inverse"]) == 0
        with pytest.raises(SystemExit): cli.main(["table", "powers", "--help"])
        assert "powers of numbers" in capsys.readouterr().out
    finally: del STUDIES["powers"]
    rows = read_json(tmp_path/"p.json")["rows"]
    assert [(r["base"], r["power"], r["found"]) for r in rows] == [(2, 3, 8), (3, 3, 27), (4, 2, 1/16)]
    assert read_json(tmp_path/"p.json")["commands"][0].startswith("slowddim table powers --quiet --out")


def test_speeds_are_measured_in_turns_and_once(tmp_path, monkeypatch):
    trained, seconds = [], dict(total_steps={10: 2., 40: 5.})
    def train(setup, line, folder, total_steps):
        trained.append(line)
        return dict(settings=dict(bs=32), seconds=seconds["total_steps"][total_steps])
    speed = iter(range(1, 100))
    monkeypatch.setattr(study, "_run_train", train)
    monkeypatch.setattr(study, "load_pretrained", lambda *args, **kwargs: (None, None))
    monkeypatch.setattr(study, "_evaluations_per_second", lambda *args, **kwargs: float(next(speed)))
    names = ("labels", "labels, Muon")
    rows = STUDIES["speeds"].fill(Setup(), tmp_path/"s.json", only=names)
    plain, muon = (study._LINES[name] for name in names)
    assert trained == [plain, plain, muon, muon]*2
    assert [row["training"] for row in rows] == [320., 320.] # 30 steps of 32 images in 3 s
    assert [(row["forward"], row["compiled"]) for row in rows] == [(3., 4.), (5., 6.)] # medians over the rounds


def test_a_training_that_fails_is_reported(tmp_path):
    with pytest.raises(ChildProcessError, match="slowddim train --data letters ended with exit code 2"):
        study._run_train(Setup(), "--data letters", tmp_path/"m", total_steps=1)


def test_help_does_not_wait_for_torch():
    code = "import sys, slowddim.studies; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@needs_data
def test_a_row_of_table_2_again():
    row = next(r for r in rows_of("reconstruction", S=10, guess="paper", refine=0, data="fashion_mnist/test"))
    table = STUDIES["reconstruction"]
    assert table.measure(table.open(device="cpu"), row)["mse"] == pytest.approx(row["mse"], rel=1e-3)

"The slowddim command as a person meets it: files, help, exit codes, one clear line."
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slowddim import cli
from slowddim.cli import main, parse_args, run_sample
from slowddim.continuous import AnglePredictor
from slowddim.ode import SOLVERS
from slowddim.pretrained import load_pretrained
from slowddim.run import tell
from slowddim.schedule import SCHEDULES, SPACINGS, linear_schedule
from slowddim.tables import STUDIES
from slowddim.unet import UNet
from slowddim.files import read_json

COMMAND = Path(sys.executable).parent/"slowddim"


def slowddim(*args, **kw): return subprocess.run([COMMAND, *map(str, args)], capture_output=True, text=True, **kw)


def test_npz_png_and_gif(tmp_path):
    for name in ("x.npz", "x.png", "x.gif"):
        done = slowddim("sample", "--n", 4, "--steps", 3, "--out", tmp_path/name)
        assert done.returncode == 0, done.stderr
        assert "4 images, 3 steps each" in done.stdout and "sampling" in done.stderr
    arr = np.load(tmp_path/"x.npz")["arr_0"]
    assert arr.shape == (4, 28, 28, 1) and arr.dtype == np.uint8 and arr.std() > 10
    assert Image.open(tmp_path/"x.png").size == (2*(2*30 + 2), 2*(2*30 + 2))
    film = Image.open(tmp_path/"x.gif")
    durations = []
    for k in range(film.n_frames):
        film.seek(k)
        durations.append(film.info["duration"])
    assert film.n_frames == 3 and sum(durations) == 100*2 + 1500


def test_help_lists_every_option():
    text = slowddim("sample", "--help").stdout
    for option in ("--model", "--n", "--steps", "--eta", "--seed", "--out", "--batch-size", "--start", "--spacing"):
        assert option in text
    assert "sample" in slowddim("--help").stdout and "train" in slowddim("--help").stdout


def help_of(command, capsys):
    with pytest.raises(SystemExit) as done: main([command, "--help"])
    assert done.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", ["sample", "train", "fid", "reconstruct", "interpolate", "animate",
                                     "repair", "restyle", "copies", "table"])
def test_help_leaves_nothing_to_look_up(command, capsys):
    said = help_of(command, capsys)
    assert "--device" in said and ("cpu, cuda, mps" in said or command in ("fid", "copies"))
    assert "--quiet" in said and "no progress bar" in said
    assert "`" not in said and "slowddim." not in said and "as in" not in said


def test_help_reads_the_registries(capsys, monkeypatch):
    monkeypatch.setitem(SOLVERS, "standing_still", SOLVERS["ddim"])
    monkeypatch.setitem(SPACINGS, "crowded", SPACINGS["leading"])
    monkeypatch.setitem(SCHEDULES, "flat", linear_schedule)
    assert "standing_still" in (said := help_of("sample", capsys)) and "crowded" in said
    assert "standing_still" in help_of("interpolate", capsys)
    assert "flat" in (said := help_of("train", capsys)) and "zero_terminal_snr" not in said # which has no T


def test_tables_read_from_the_source_are_those_that_are_imported(root):
    source = "".join((root/"slowddim"/f"{name}.py").read_text("utf-8") for name in ("cli", "commands"))
    named = set(re.findall(r"`(slowddim\.\w+\.[A-Z_]+)`", source))
    assert {"slowddim.presets.PRESETS", "slowddim.ode.SOLVERS"} < named
    for name in [*named, "slowddim.data.DATA", "slowddim.latent.GUESSES"]:
        value = pkgutil.resolve_name(name)
        assert cli._names(name) == ([value] if isinstance(value, str) else list(value)), name


@pytest.mark.parametrize("line", ["--help", "fid --help", "sample --n many"])
def test_what_needs_no_network_does_not_import_torch(line):
    code = ("import sys; from slowddim.cli import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: print('imported:', [m for m in ('torch', 'fastcore') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code, *line.split()], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "imported: []", done.stderr


def test_python_is_told_what_the_shell_is_told(tmp_path):
    assert main(["sample", "--n", "3", "--steps", "2", "--eta", "1", "--quiet", "--out", str(tmp_path/"a.png")]) == 0
    said = run_sample(n=3, steps=2, eta=1., quiet=True, out=tmp_path/"b.png")
    assert said.startswith("3 images, 2 steps each")
    assert (tmp_path/"a.png").read_bytes() == (tmp_path/"b.png").read_bytes()


def test_a_call_in_python_is_written_as_a_command_line():
    given = dict(preset="cifar10_airplane", data="digits", classes=["3", "5"], widths=[32, 32], attention=[], lr=1e-3,
                 lognormal=[-0.5, 1.4], flips=False, continuous=True, init=None)
    args = parse_args(["train", *cli._as_argv(given)])
    assert {name: getattr(args, name) for name in given} == given and args.epochs == 50 # the preset's


@pytest.fixture(scope="module")
def pictures(tmp_path_factory): # files that the Fashion-MNIST model cannot use
    folder = tmp_path_factory.mktemp("pictures")
    np.savez(folder/"rgb.npz", arr_0=np.zeros((4, 28, 28, 3), np.uint8))
    np.savez(folder/"large.npz", arr_0=np.zeros((4, 64, 64, 1), np.uint8))
    return dict(RGB=str(folder/"rgb.npz"), LARGE=str(folder/"large.npz"))


@pytest.mark.parametrize("args, message", [
    (["sample", "--steps", "1001"], "in [1, 1000], got 1001"),
    (["sample", "--model", "fashion"], "'fashion_mnist'"),
    (["sample", "--out", "x.bmp"], ".png, .gif or .npz"),
    (["sample", "--eta", "3"], "eta must be in [0, 1"),
    (["sample", "--eta", "3", "--out", "new/x.npz"], "eta must be in [0, 1"),
    (["sample", "--n", "0", "--out", "x.gif"], "n must be at least 1"),
    (["sample", "--solver", "rk45", "--out", "x.gif"], "'ddim'"),
    (["sample", "--scale", "0"], "scale must be at least 1"),
    (["sample", "--device", "gpu"], "'gpu'"),
    (["train", "--data", "digits", "--patch-size", "0"], "--patch-size must be at least 1"),
    (["sample", "--n", "0"], "n must be at least 1"),
    (["sample", "--spacing", "log"], "'quadratic'"),
    (["sample", "--n", "many"], "--n must be an integer, got 'many'"),
    (["train", "--data", "letters"], "'digits'"),
    (["train", "--data", "digits", "--init", "nobody"], "--init must be one of"),
    (["train", "--data", "digits", "--init", "fashion_mnist", "--widths", "32"], "'fashion_mnist' has another shape"),
    (["train", "--data", "digits", "--init", "fashion_mnist", "--lognormal", "0", "0"], "deviation of log sigma"),
    (["train", "--data", "digits", "--classes", "ten"], "'9'"),
    (["train", "--net", "source", "--norm", "batch"], "--norm must be one of 'group', 'rms', got 'batch'"),
    (["train", "--net", "source", "--upsampling", "cubic"], "'transposed', got 'cubic'"),
    (["train", "--schedule", "table"], "'angle', got 'table'"),
    (["train", "--lr-schedule", "stairs"], "'constant', got 'stairs'"),
    (["train", "--data", "digits", "--weighting", "half"], "'min_snr', got 'half'"),
    (["train", "--prediction", "half"], "'score', got 'half'"),
    (["dream"], "COMMAND must be one of 'sample'"),
    (["reconstruct", "--steps", "0"], "in [1, 1000], got 0"),
    (["reconstruct", "--guess", "best"], "'target'"),
    (["reconstruct", "--refine", "0"], "refine must be at least 1"),
    (["reconstruct", "--out", "x.jpg"], ".png, got 'x.jpg'"),
    (["reconstruct", "nowhere.npz"], "nowhere.npz"),
    (["reconstruct", "RGB"], "3 channels, the model wants 1"),
    (["reconstruct", "LARGE"], "64x64"),
    (["reconstruct", "LARGE", "--n", "9"], "in [1, 4], got 9"),
    (["interpolate", "--frames", "1"], "frames must be at least 2"),
    (["interpolate", "--steps", "1001"], "in [1, 1000], got 1001"),
    (["interpolate", "--solver", "ddpm"], "'ab3', got 'ddpm'"),
    (["interpolate", "--corners", "RGB"], "not both"),
    (["interpolate", "--n", "0"], "at least 1, got 0"),
    (["interpolate", "--scale", "0"], "scale must be at least 1"),
    (["animate", "--frames", "0"], "frames must be at least 1"),
    (["animate", "--stops", "1"], "stops must be at least 2"),
    (["animate", "--fps", "0"], "fps must be"),
    (["animate", "--out", "x.png"], ".gif or .apng or .html"),
    (["table", "consistency", "--steps", "20"], "two numbers of steps, got --steps [20]"),
    (["table", "solvers", "--solvers", "rk45"], "'heun'"),
    (["table", "solvers", "--spacings", "log"], "'quadratic'"),
    (["table", "solvers", "--n", "1"], "n must be at least 2"),
    (["table", "time", "--precision", "bf16"], "time is always fp32"),
    (["table"], "which study? One of reconstruction"),
    (["table", "dream"], "study must be one of 'reconstruction'"),
    (["table", "time", "--scales", "3"], "unrecognized arguments: --scales 3"),
    (["table", "time", "--n", "many"], "n must be an integer, got 'many'"),
    (["table", "eta", "--etas", "high"], "or 'hat', got 'high'"),
    (["table", "networks", "--only", "wide"], "'labels, Muon'"),
    (["sample", "--precision", "half"], "--precision must be one of 'auto', 'fp32', 'bf16', got 'half'"),
    (["table", "consistency", "--steps", "0", "10"], "in [1, 1000], got 0"),
])
def test_bad_input_exits_with_2_and_one_line(args, message, tmp_path, pictures, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try: code = main([pictures.get(a, a) for a in args])
    except SystemExit as e: code = e.code # argparse's own
    said = capsys.readouterr().err
    assert code == 2 and message in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_bad_input_in_a_process_of_its_own(tmp_path):
    done = slowddim("interpolate", "--frames", 1, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "slowddim interpolate: --frames must be at least 2, got 1\n"


@pytest.mark.parametrize("line, said", [
    ("sample --n many", "slowddim sample: --n must be an integer, got 'many'"),
    ("reconstruct --guess", "slowddim reconstruct: --guess needs a value"),
    ("", "slowddim: the following arguments are required: COMMAND"),
])
def test_what_cannot_be_read_gives_one_line_too(line, said, capsys):
    with pytest.raises(SystemExit) as done: main(line.split())
    assert done.value.code == 2 and capsys.readouterr().err == said + "\n"


@pytest.mark.parametrize("line", ["train", "table time", "sample --out x.npz", "sample --out x.gif", "fid x.npz"])
@pytest.mark.parametrize("kept", [None, "c.safetensors holds step 3 of 40"])
def test_ctrl_c_says_whether_the_same_command_goes_on(line, kept, capsys, monkeypatch):
    def interrupted(argv):
        stop = KeyboardInterrupt()
        if kept is not None: tell(stop, kept)
        raise stop
    monkeypatch.setattr(cli, "parse_args", interrupted)
    assert main(line.split()) == 130
    said = capsys.readouterr().err
    assert f"slowddim {line.split()[0]}: stopped" in said and ("goes on from here" in said) == (kept is not None)
    assert kept is None or kept in said


def test_ctrl_c_goes_on_if_something_was_kept(tmp_path, monkeypatch, capsys):
    line = ["table", "time", "--steps", "2", "3", "--n", "2", "--quiet", "--out", str(tmp_path/"t.json")]
    real, answers = STUDIES["time"], iter([KeyboardInterrupt, dict(best_seconds=1.), KeyboardInterrupt])

    def measure(setup, row):
        answer = next(answers)
        if answer is KeyboardInterrupt: raise KeyboardInterrupt
        return answer
    monkeypatch.setitem(STUDIES, "time", real._replace(measure=measure))
    for goes_on in (False, True):
        assert main(line) == 130
        assert ("holds 1 of these rows; the same command goes on" in capsys.readouterr().err) == goes_on


def test_train_in_continuous_time_then_sample(tmp_path, capsys):
    assert main(["train", "--data", "digits", "--widths", "32", "32", "--patch-size", "1", "--total-steps", "8",
                 "--bs", "64", "--continuous", "--n-steps", "100", "--quiet", "--out", str(tmp_path/"digits")]) == 0
    assert main(["sample", "--model", str(tmp_path/"digits"), "--n", "3", "--steps", "2", "--quiet",
                 "--out", str(tmp_path/"d.npz")]) == 0
    assert np.load(tmp_path/"d.npz")["arr_0"].shape == (3, 8, 8, 1)
    model, schedule = load_pretrained(str(tmp_path/"digits"))
    assert isinstance(model, AnglePredictor) and schedule == model.schedule and schedule.n_steps == 100
    assert 0 < model.std < 1 and len(read_json(tmp_path/"digits"/"log.json")["image_losses"]) >= 1


@pytest.mark.parametrize("prediction", ["v", "x_0"])
def test_train_what_the_network_says_then_sample(prediction, tmp_path):
    assert main(["train", "--data", "digits", "--widths", "32", "32", "--patch-size", "1", "--total-steps", "3",
                 "--bs", "64", "--prediction", prediction, "--weighting", "min_snr", "--lognormal", "-0.5", "1.4",
                 "--quiet", "--out", str(tmp_path/"d")]) == 0
    model, _ = load_pretrained(str(tmp_path/"d"))
    assert isinstance(model, UNet) and model.prediction == prediction
    assert main(["sample", "--model", str(tmp_path/"d"), "--n", "2", "--steps", "2", "--quiet",
                 "--out", str(tmp_path/"d.npz")]) == 0


def test_train_then_sample(tmp_path):
    done = slowddim("train", "--data", "digits", "--widths", 32, 32, "--patch-size", 1, "--epochs", 1, "--bs", 250,
                    "--out", tmp_path/"digits")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits"]
    done = slowddim("sample", "--model", tmp_path/"digits", "--n", 3, "--steps", 2, "--out", tmp_path/"d.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path/"d.npz")["arr_0"].shape == (3, 8, 8, 1)

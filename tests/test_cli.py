"The slowddim command as a person meets it: files, help, exit codes, one clear line."
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    (["train", "--data", "digits", "--patch-size", "0"], "patch_size must be at least 1"),
    (["sample", "--n", "0"], "n must be at least 1"),
    (["sample", "--spacing", "log"], "'quadratic'"),
    (["sample", "--n", "many"], "invalid int value"),
    (["train", "--data", "letters"], "'digits'"),
    (["train", "--data", "digits", "--classes", "ten"], "'9'"),
    (["dream"], "invalid choice"),
])
def test_bad_input_exits_with_2_and_one_line(args, message, tmp_path):
    done = slowddim(*args, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_train_then_sample(tmp_path):
    done = slowddim("train", "--data", "digits", "--widths", 32, 32, "--patch-size", 1, "--epochs", 1, "--bs", 250,
                    "--out", tmp_path/"digits")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits"]
    done = slowddim("sample", "--model", tmp_path/"digits", "--n", 3, "--steps", 2, "--out", tmp_path/"d.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path/"d.npz")["arr_0"].shape == (3, 8, 8, 1)

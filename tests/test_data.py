"The three real sets, their classes, and what is said when they are not there."
import subprocess
import sys

import pytest
from conftest import needs_data

from slowddim.data import find_data, load_data


@needs_data
@pytest.mark.parametrize("name, split, shape", [
    ("fashion_mnist", "train", (60000, 1, 28, 28)), ("fashion_mnist", "test", (10000, 1, 28, 28)),
    ("mnist", "test", (10000, 1, 28, 28)), ("cifar10", "test", (10000, 3, 32, 32)),
])
def test_real_sets(name, split, shape):
    data = load_data(name, split)
    assert tuple(data.images.shape) == shape and len(data.classes) == 10
    assert data.labels.bincount().min() >= shape[0]*0.085
    assert data.batch(slice(0, 2), 32).shape == (2, shape[1], 32, 32)


@needs_data
def test_airplanes_only():
    planes = load_data("cifar10", classes=["airplane"])
    assert len(planes) == 5000 and planes.classes == ("airplane",) and planes.labels.unique().tolist() == [0]


@needs_data
def test_known_pixels():
    data = load_data("fashion_mnist")
    assert abs(data.images.float().mean().item()/255 - 0.2860) < 1e-3 and data.classes[data.labels[0]] == "Ankle boot"


def test_missing_data_says_what_was_tried(tmp_path):
    code = "from slowddim.data import load_data; load_data('fashion_mnist')"
    env = dict(PATH="", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), HOME=str(tmp_path),
               SLOWDDIM_DATA=str(tmp_path/"nowhere"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("FileNotFoundError: no fashion_mnist data found")
    for part in ("nowhere", "zalando-datasets/fashion_mnist", "data='digits'"): assert part in last


def test_search_order(tmp_path, monkeypatch):
    (tmp_path/"env"/"mnist").mkdir(parents=True)
    (tmp_path/"mine").mkdir()
    monkeypatch.setenv("SLOWDDIM_DATA", str(tmp_path/"env"))
    assert find_data("mnist", tmp_path/"mine") == str(tmp_path/"mine")
    assert find_data("mnist") == str(tmp_path/"env"/"mnist")
    assert find_data("cifar10") == "uoft-cs/cifar10"


def test_a_folder_of_grey_images_stays_grey(tmp_path):
    import numpy as np
    from PIL import Image

    from slowddim.data import load_folder
    pixels = np.arange(60, dtype=np.uint8).reshape(6, 10)
    for name in ("a", "b"): Image.fromarray(pixels).save(tmp_path/f"{name}.png")
    grey, colour = load_folder(tmp_path), load_folder(tmp_path, channels=3)
    assert grey.images.shape == (2, 1, 6, 10) and colour.images.shape == (2, 3, 6, 10)
    assert (grey.images == pixels).all() and (colour.images == pixels).all()
    Image.new("RGB", (10, 6)).save(tmp_path/"c.png")
    assert load_folder(tmp_path).images.shape == (3, 3, 6, 10)

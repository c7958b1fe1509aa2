"The data set that ships: a part of the original, made by chance from a seed, and taken wherever a data set is named."
import importlib

import numpy as np
import pytest
import torch

from slowddim.cli import main
from slowddim.data import load_data
from slowddim.files import weights_dir

FOLDER = weights_dir()/"fashion_mnist_mini"
SPLITS = dict(train=500, test=50)


def stored():
    with np.load(FOLDER/"images.npz", allow_pickle=False) as file: return dict(file)


@pytest.mark.parametrize("split", SPLITS)
def test_it_opens_offline(split, monkeypatch):
    monkeypatch.delenv("SLOWDDIM_DATA", raising=False)
    data, per_class = load_data("fashion_mnist_mini", split), SPLITS[split]
    assert data.images.shape == (10*per_class, 1, 28, 28) and data.images.dtype == torch.uint8
    assert data.labels.bincount().tolist() == [per_class]*10 and data.labels.dtype == torch.int64
    assert len(load_data("fashion_mnist_mini", split, classes=["Bag"])) == per_class
    assert not data.own


def test_its_rows_are_different_and_its_licence_lies_beside_it():
    for split, per_class in SPLITS.items():
        rows = stored()[f"{split}_rows"]
        assert (np.diff(rows) > 0).all() and len(rows) == 10*per_class
    assert "2017 Zalando SE" in (FOLDER/"LICENSE.txt").read_text("utf-8")
    assert (FOLDER/"images.npz").stat().st_size < 2.5e6


@pytest.mark.parametrize("split", SPLITS)
def test_it_is_the_original_at_its_rows(split):
    try: whole = load_data("fashion_mnist", split)
    except FileNotFoundError: pytest.skip("needs the full set")
    data, rows = load_data("fashion_mnist_mini", split), torch.from_numpy(stored()[f"{split}_rows"]).long()
    assert torch.equal(data.images, whole.images[rows]) and torch.equal(data.labels, whole.labels[rows])
    assert data.classes == whole.classes


def test_the_script_makes_the_same_file(root, monkeypatch):
    try: load_data("fashion_mnist")
    except FileNotFoundError: pytest.skip("needs the full set")
    monkeypatch.syspath_prepend(str(root/"tools"))
    mini = importlib.import_module("mini")
    found, there = mini.arrays(), stored()
    assert found.keys() == there.keys()
    assert all(np.array_equal(found[k], there[k]) and found[k].dtype == there[k].dtype for k in found)
    labels = torch.arange(10).repeat(100)
    assert not torch.equal(mini.chosen_rows(labels, 50, 0), mini.chosen_rows(labels, 50, 1))


def test_the_commands_take_it(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SLOWDDIM_DATA", raising=False)
    model = str(tmp_path/"small")
    assert main(["train", "--data", "fashion_mnist_mini", "--widths", "32", "32", "--total-steps", "2", "--bs", "4",
                 "--sample-every", "0", "--quiet", "--out", model]) == 0
    assert main(["reconstruct", "--model", model, "--n", "2", "--steps", "2", "--quiet",
                 "--out", str(tmp_path/"own.png")]) == 0
    assert "fashion_mnist_mini/test" in capsys.readouterr().out
    assert main(["reconstruct", "fashion_mnist_mini", "--n", "2", "--steps", "1", "--quiet",
                 "--out", str(tmp_path/"named.png")]) == 0
    assert "fashion_mnist_mini/test" in capsys.readouterr().out
    np.savez(tmp_path/"real.npz", load_data("fashion_mnist_mini", "test").images[:300, 0, ..., None].numpy())
    assert main(["fid", str(tmp_path/"real.npz"), "--reference", "fashion_mnist_mini", "--quiet"]) == 0
    assert "5,000 of fashion_mnist_mini" in capsys.readouterr().out
    assert main(["reconstruct", "fashion_mnist_mini", "--skip-broken", "--out", str(tmp_path/"no.png")]) == 2
    assert "'fashion_mnist_mini'" in capsys.readouterr().err

"Presets build, take optimiser steps on real images, and the models of the repository are what their cards say."
import re

import pytest
import torch
from PIL import Image

from slowddim import pretrained
from slowddim.cli import main, _make_parser, parse_args
from slowddim.data import load_data
from slowddim.generate import sample_images
from slowddim.continuous import AnglePredictor
from slowddim.presets import PRESETS, open_preset
from slowddim.pretrained import _card_prose, _find_model, load_pretrained, save_pretrained
from slowddim.train import train
from slowddim.unet import UNet
from slowddim.files import MODEL_FILE, REPOSITORY_MODELS, load_tensors, read_json, repository_dir, tensors_digest


@pytest.fixture(scope="module")
def cifar():
    try: return load_data("cifar10", "test")
    except FileNotFoundError as e: pytest.skip(str(e))


def test_help_names_every_preset():
    said = _make_parser()._subparsers._group_actions[0].choices["train"].format_help()
    assert all(name in said for name in PRESETS)


def test_a_preset_changes_defaults_and_options_change_the_preset():
    args = parse_args(["train", "--preset", "mnist", "--bs", "16"])
    assert (args.data, args.upsampling, args.lr, args.bs) == ("mnist", "transposed", 7e-4, 16)
    assert parse_args(["train", "--preset", "cifar10_airplane"]).widths == (64, 96, 128)
    assert parse_args(["train"]).prediction == "eps"


@pytest.mark.parametrize("args, message", [
    (["--preset", "cifar"], "--preset must be one of"),
    (["--preset", "mnist", "--size", "64"], "--size is for folders, mnist has its own"),
    (["--continuous", "--schedule", "cosine"], "continuous time has its own schedule, got --schedule 'cosine'"),
    (["--preset", "celeba_hq"], "needs --data, a folder of images"),
    (["--preset", "mnist", "--attention", "5"], "attention must be"),
])
def test_wrong_presets_are_refused(args, message, capsys, tmp_path):
    if "--attention" in args: args = [*args, "--data", "digits"]
    assert main(["train", *args, "--out", str(tmp_path/"m")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path/"m").exists()


@pytest.mark.parametrize("name, millions", [("cifar10_64", 8), ("cifar10_128", 30)])
def test_cifar_presets_take_steps_on_real_images(name, millions, cifar):
    few = type(cifar)("cifar10", "test", cifar.images[:4], cifar.labels[:4], cifar.classes)
    model, schedule, data, how = open_preset(name, data=few)
    assert sum(p.numel() for p in model.parameters()) > millions*1e6
    log = train(model, ddpm=schedule, data=data, **how | dict(bs=2), total_steps=2, seed=0, progress=False)
    assert log["steps"] == 2 and all(0 < loss < 10 for _, loss in log["losses"])


def test_celeba_preset_takes_a_step_on_a_folder(cifar, tmp_path):
    for i, x in enumerate(cifar.images[:2]): # real pictures, enlarged to the size of that set
        Image.fromarray(x.permute(1, 2, 0).numpy()).resize((300, 256)).save(tmp_path/f"{i}.png")
    model, schedule, data, how = open_preset("celeba_hq", data=str(tmp_path))
    assert data.images.shape == (2, 3, 256, 256) and how["flips"]
    log = train(model, ddpm=schedule, data=data, **how | dict(bs=1), total_steps=1, seed=0, progress=False)
    assert 0 < log["losses"][0][1] < 10


def test_an_installed_package_says_how_to_get_the_models(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "repository_dir", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    name = REPOSITORY_MODELS[0]
    with pytest.raises(FileNotFoundError, match=re.escape(f"models/{name} of the repository (https://")) as caught:
        _find_model(name)
    assert f"slowddim train --preset {name} --out {name}" in str(caught.value)


@pytest.mark.parametrize("name", REPOSITORY_MODELS)
def test_models_of_the_repository(name, root):
    folder = repository_dir()/name
    card = read_json(folder/"card.json")
    assert folder == root/"models"/name
    assert card["digest"] == tensors_digest(load_tensors(folder/MODEL_FILE)[0]) and card["bytes"] <= 12e6
    assert card["command"].startswith(f"slowddim train --preset {name} ")
    log = read_json(root/"results"/f"train_{name}.json")
    assert log["digest"] == card["digest"] and len(log["losses"]) > 50 and log["seconds"] > 0
    assert (folder/"README.md").read_text("utf-8") == _card_prose(card)
    model, schedule = load_pretrained(name)
    assert isinstance(model, AnglePredictor if "continuous" in name else UNet) and schedule.n_steps == 1000
    x = sample_images(model, schedule, 2, 2, progress=False)
    assert x.dtype == torch.uint8 and x.shape == ((2, 32, 32, 3) if "cifar" in name else (2, 28, 28, 1))


def test_a_card_advises_how_to_sample(tmp_path, capsys):
    model, schedule, _, _ = open_preset("mnist", data="digits", widths=(32, 32), patch_size=1)
    save_pretrained(model, schedule, tmp_path/"m", dict(sampling=dict(steps=3, eta=1.)))
    for options, said in ([], "3 steps"), (["--steps", "2"], "2 steps"), (["--solver", "dpmpp_2m"], "20 steps"):
        assert main(["sample", "--model", str(tmp_path/"m"), "--n", "2", "--quiet", *options,
                     "--out", str(tmp_path/"x.png")]) == 0
        assert said in capsys.readouterr().out


def test_models_of_the_repository_stay_small():
    assert sum((repository_dir()/name/MODEL_FILE).stat().st_size for name in REPOSITORY_MODELS) <= 24e6

"Bad values on the command line: one line that names the option as it is typed, the value, and what would be accepted."
import argparse
import re

import numpy as np
import pytest
import torch
from PIL import Image

from slowddim import train
from slowddim.cli import _as_typed, _make_parser, _typed_names, main
from slowddim.pretrained import save_pretrained
from slowddim.schedule import linear_schedule
from slowddim.studies import _parser
from slowddim.tables import STUDIES
from slowddim.unet import UNet

BASE = dict(sample="--model tiny --out x.png", reconstruct="grey.npz --model tiny", interpolate="--model tiny",
            animate="--model tiny", train="--data digits --widths 32 --patch-size 1 --out m", fid="grey.npz",
            push="tiny me/tiny", export="--model tiny --out m", repair="grey.npz --model tiny",
            restyle="grey.npz --model tiny", copies="grey.npz --data grey.npz", distill="tiny")
STUDIES_HERE = ("time", "solvers", "eta")


def parsers(): # what follows a command's name -> its parser
    commands = next(a for a in _make_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    return {**{name: p for name, p in commands.items() if name != "table"},
            **{f"table {name}": _parser(STUDIES[name]) for name in STUDIES_HERE}}


def bad_values(action): # of an option, as typed; [] for one that takes any text
    told = action.help or ""
    if action.choices or re.search(r"one of `[\w.]+`(?!,? or)", told): return ["nobody"]
    if action.type is int: return ["x", "-999999999"]
    if action.type is float: return ["x", "-inf"]
    if action.dest in ("solvers", "spacings"): return ["nobody"]
    if action.metavar == "X": return ["-999999999"] if action.dest == "etas" else ["x", "-999999999"] # of a study
    return ["nobody"] if action.dest in ("model", "init", "device", "weighting", "data", "classes") else []


def cases():
    for command, parser in parsers().items():
        for action in parser._actions:
            if not action.option_strings or action.nargs == 0: continue
            for value in bad_values(action):
                words = [value, "1"] if action.nargs == 2 else [value]
                yield pytest.param(command, action.option_strings[0], words, id=f"{command}-{action.dest}-{value}")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("messages")
    torch.manual_seed(0)
    save_pretrained(UNet(sample_size=32, widths=(32,), patch_size=4, image_size=28), linear_schedule(),
                    folder/"tiny", dict(data="fashion_mnist"))
    np.savez(folder/"grey.npz", arr_0=np.zeros((4, 28, 28, 1), np.uint8))
    (folder/"photos").mkdir()
    for i in range(2): Image.fromarray(np.full((8, 8), 40*i, np.uint8)).save(folder/"photos"/f"{i}.png")
    return folder


@pytest.mark.parametrize("command, option, words", cases())
def test_a_bad_value_is_answered_in_the_words_of_the_command_line(command, option, words, place, monkeypatch, capsys):
    def began(*args, **kwargs): raise AssertionError("the work has begun")
    monkeypatch.chdir(place)
    monkeypatch.setattr(train, "_run_epochs", began)
    base = BASE.get(command, "--model tiny")
    if option == "--size": base = base.replace("digits", "photos") # the digits have their own
    if option == "--size" and command == "fid": base += " --reference grey.npz"
    try: code = main([*command.split(), *base.split(), option, *words])
    except SystemExit as e: code = e.code
    said = capsys.readouterr().err
    assert code == 2 and said.count("\n") == 1 and said.startswith(f"slowddim {command.split()[0]}"), said
    assert re.search(rf": {option}(?: \([^)]*\))? must be |: {option} '{words[0]}' cannot", said), said
    assert words[0] in said.partition("must be")[2] + said.partition(option)[2], said
    spoken = {a.dest for a in parsers()[command]._actions if "_" in a.dest}
    assert not re.search(rf"\b({'|'.join(spoken or {'no_such_word'})}|n_epochs|timesteps must|S) ?\b[ =(]", said), said


NAMES = {command: _typed_names(command.split()) for command in ("sample", "train", "fid", "push", "table solvers")}


@pytest.mark.parametrize("command, said, typed", [
    ("train", "patch_size must be at least 1, got 0", "--patch-size must be at least 1, got 0"),
    ("train", "n_epochs must be at least 1, got 0", "--epochs must be at least 1, got 0"),
    ("train", "class must be one of '3', got 'x'", "--classes must be one of '3', got 'x'"),
    ("train", "model must be one of 'mnist', got 'x'", "--init must be one of 'mnist', got 'x'"),
    ("train", "got prediction='v'", "got --prediction 'v'"),
    ("train", "label_dropout=0.2 is for labels", "--label-dropout 0.2 is for labels"),
    ("train", "ema=[0.9, 0.99] needs test images", "--ema 0.9 0.99 needs test images"),
    ("train", "mean of log sigma must be small", "--lognormal (mean of log sigma) must be small"),
    ("sample", "S (number of timesteps) must be in [1, 9]", "--steps (number of timesteps) must be in [1, 9]"),
    ("sample", "labels='boot', but the model knows none", "--label 'boot', but the model knows none"),
    ("fid", "bs must be at least 1, got 0", "--batch-size must be at least 1, got 0"),
    ("fid", "skip_broken (--skip-broken) is for folders", "--skip-broken is for folders"),
    ("push", "name must be like 'owner/model', got 'x'", "OWNER/NAME must be like 'owner/model', got 'x'"),
    ("table solvers", "solver must be one of 'ddim', got 'x'", "--solvers must be one of 'ddim', got 'x'"),
    ("table solvers", "n must be an integer, got 'many' (str)", "--n must be an integer, got 'many'"),
    *[(command, said, said) for command in NAMES for said in (
        "the model knows no labels", "model/config.json names the class None", "out.png: No such file or directory",
        "the step size must be small", "a-n must be told", "my/n=3.png is there", "data 3 must be", "x.n=4 is odd",
        "the preset celeba_hq needs --data, a folder of images", "--size is for folders, digits has its own")],
])
def test_a_message_is_said_as_typed(command, said, typed): assert _as_typed(said, NAMES[command]) == typed


@pytest.mark.parametrize("line, said", [
    ("sample --eta -1e-3", "--eta must be in [0, "), ("sample --eta -nan", "--eta must be a finite number, got nan"),
    ("sample --device gpu", "--device 'gpu' cannot be used here: it must be cpu, cuda, mps"),
    ("train --lognormal -5e-1", "--lognormal needs 2 values"), ("sample --seed", "--seed needs a value"),
    ("train --ema", "--ema needs a value, or several"), ("reconstruct none.npz", "none.npz: No such file"),
    ("table eta --etas", "--etas needs a value, or several"), ("push", "arguments are required: FOLDER, OWNER/NAME"),
    ("interpolate grey.npz --n 9 --model tiny", "--n (number of interpolations) must be in [1, 2], got 9"),
    ("push nowhere me/x", "there is no folder 'nowhere'"), ("push tiny tiny", "OWNER/NAME must be like 'owner/model'"),
])
def test_other_lines(line, said, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    try: code = main([*line.split(), *["--model", "tiny"][:2*line.startswith("sample")]])
    except SystemExit as e: code = e.code
    told = capsys.readouterr().err
    assert code == 2 and told.count("\n") == 1 and said in told

"Scores while a network trains, trackers, networks of others that describe images, and two trainings of one folder."
import json
import os
import re
import sqlite3
import subprocess
import sys
from configparser import ConfigParser
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_own_images import TINY, draw_folder, run

import slowddim
from slowddim.classifier import load_classifier
from slowddim.data import ImageSet, load_data, load_images
from slowddim.ddpm import DDPM
from slowddim.fid import ImageEval, Score, hold_out
from slowddim.files import load_tensors, read_json, repository_dir, save_tensors
from slowddim.judges import HeldOutScore, PixelEval, open_extractor
from slowddim.train import _data_digest

STEPS = [*TINY, "--total-steps", 3]


def test_scores_on_the_way(tmp_path, capsys):
    "In the log, the card and the figure; the weights are bit-equal with and without them."
    line = ["train", "--data", "digits", *STEPS, "--dropout", 0.1]
    run(*line, "--out", tmp_path/"a")
    capsys.readouterr()
    run(*line, "--fid-every", 0, "--out", tmp_path/"b")
    told = capsys.readouterr().out
    assert "PCA Frechet" in told and "against 297 held-out images" in told
    (a, b), log = (read_json(tmp_path/name/"card.json") for name in "ab"), read_json(tmp_path/"b"/"log.json")
    assert a["digest"] == b["digest"] and "scores" not in a
    seen, values, seconds = zip(*log["fid"])
    assert seen == (30, 60, 90) and list(seconds) == sorted(seconds) and seconds[-1] == log["seconds"]
    assert b["scores"] == [log["score"]] and round(b["scores"][0]["value"], 6) == values[-1]
    score = Score(**log["score"])
    assert re.fullmatch(r"pca64-\w{6}-\w{6}", score.extractor) and score.n == 256 and score > score.floor > 0
    sizes = [Image.open(tmp_path/name/"loss.png").size for name in "ab"]
    assert sizes[0] == sizes[1] and (tmp_path/"a"/"loss.png").read_bytes() != (tmp_path/"b"/"loss.png").read_bytes()


def test_held_out_images_are_never_trained_on(tmp_path, caplog):
    draw_folder(tmp_path/"shapes", 100)
    how = ["--size", 8, "--skip-broken", *STEPS]
    run("train", "--data", tmp_path/"shapes", *how, "--fid-every", 60, "--out", tmp_path/"m")
    assert "20 of 100 images are held out for the scores, 80 are trained on" in " ".join(caplog.messages)
    data, card = load_data(tmp_path/"shapes", size=8, skip_broken=True), read_json(tmp_path/"m"/"card.json")
    rest, held = hold_out(data)
    assert card["settings"]["n_images"] == len(rest) == 80 and card["settings"]["data_digest"] == _data_digest(rest)
    known = {image.numpy().tobytes() for image in rest.images}
    assert not known & {image.numpy().tobytes() for image in held.images}
    assert len(read_json(tmp_path/"m"/"log.json")["fid"]) == 1 # the last step is always scored
    for split, images in (("train", rest), ("test", held)): # the same, divided by hand
        for k, (image, label) in enumerate(zip(images.images, images.labels)):
            folder = tmp_path/"split"/split/data.classes[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.movedim(0, 2).numpy()).save(folder/f"{k:03d}.png")
    run("train", "--data", tmp_path/"split", *how[2:], "--out", tmp_path/"n")
    run("train", "--data", tmp_path/"split", *how[2:], "--fid-every", 60, "--out", tmp_path/"o")
    digests = [read_json(tmp_path/name/"card.json")["digest"] for name in "no"]
    assert digests[0] == digests[1]
    assert read_json(tmp_path/"o"/"card.json")["settings"]["n_images"] == 80


def test_the_components_are_those_of_the_training_images(tmp_path):
    data = load_data("digits")
    rest, held = hold_out(data)
    score = HeldOutScore(rest, held, DDPM(), 2)
    expected = PixelEval.of(held, rest, rest)
    assert score.scorer.name == expected.name and torch.equal(score.scorer.model.components, expected.model.components)
    assert torch.equal(score.scorer.mean, expected.mean)
    assert not torch.equal(expected.mean, PixelEval.of(rest, held).mean)
    assert abs(score.scorer.distance(score.scorer.features(held.images))) < 1e-6 # the reference is what was held out


def test_garments_and_digits_have_a_classifier():
    def images(name, n, own=False):
        x = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
        x[:, :, 6:22, 6:22] = torch.randint(100, 256, (n, 1, 16, 16), generator=torch.Generator().manual_seed(n))
        return ImageSet(name, "train", x, torch.arange(n) % 10, tuple("0123456789"), own=own)
    def scorer(*args, **kwargs): return HeldOutScore(images(*args, **kwargs), images(args[0], 20), DDPM()).scorer
    garments = scorer("fashion_mnist", 40)
    assert garments.name == ImageEval.fashion_mnist().name == load_classifier().digest
    digits = repository_dir()/"mnist_classifier"
    if digits.is_dir(): assert scorer("mnist", 40).name.startswith(load_classifier(digits).digest)
    for found in (scorer("mnist", 40, own=True), scorer("digits", 40)): assert found.name.startswith("pca5-")


@pytest.mark.parametrize("minutes, message", [
    (-1, "--fid-every must"), (1, "a fifth of at least 80 images: shapes has 30; add 50")])
def test_too_few_images_are_refused(minutes, message, tmp_path, capsys):
    draw_folder(tmp_path/"shapes", 30)
    run("train", "--data", tmp_path/"shapes", "--size", 8, "--skip-broken", *STEPS, "--fid-every", minutes,
        "--out", tmp_path/"m", code=2)
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path/"m").exists()


def test_tensorboard_for_real(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    line = ["train", "--data", "digits", *STEPS]
    files = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    run(*line, "--fid-every", 0, "--log-with", "tensorboard", "--out", tmp_path/"m")
    run(*line, "--out", tmp_path/"n")
    if files is not None: assert len(os.listdir("/proc/self/fd")) <= files + 1 # nothing stays open
    log = read_json(tmp_path/"m"/"log.json")
    assert read_json(tmp_path/"m"/"card.json")["digest"] == read_json(tmp_path/"n"/"card.json")["digest"]
    events = list((tmp_path/"m.tensorboard").rglob("events.out.tfevents*"))
    found = {}
    for event in events:
        reader = EventAccumulator(str(event))
        reader.Reload()
        found |= {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    for tag, entries in (("loss", log["losses"]), ("fid", log["fid"])):
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        assert np.allclose([value for _, value in found[tag]], [entry[1] for entry in entries], rtol=1e-6)
    assert [value for _, value in found["images_seen"]] == [30, 60, 90] and len(found["test_loss"]) == 1


def test_trackio_for_real(tmp_path):
    "In a process of its own, whose folder it takes from the environment; without a network."
    if find_spec("trackio") is None: pytest.skip("needs trackio")
    told = ("import socket, sys; from slowddim.cli import main; socket.socket.connect = None\n"
            "sys.exit(main(sys.argv[1:]))")
    line = ["train", "--data", "digits", *STEPS, "--log-with", "trackio", "--out", tmp_path/"m"]
    env = os.environ | dict(TRACKIO_DIR=str(tmp_path/"tracks"))
    done = subprocess.run([sys.executable, "-c", told, *map(str, line)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path/"tracks"/"m.db")) as found:
        rows = found.execute("select step, metrics from metrics order by step").fetchall()
    log = read_json(tmp_path/"m"/"log.json")
    assert [(step, json.loads(values)["loss"]) for step, values in rows] == [
        (step, loss) for step, (_, loss) in enumerate(log["losses"], 1)]


def test_a_network_trained_on_imagenet(tmp_path, monkeypatch, capsys):
    "With random weights, which the test writes; nothing is fetched, and a pickle is not opened."
    from torchvision.models import get_model
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    rng = np.random.default_rng(0)
    for name, n in (("a", 20), ("b", 32)):
        np.savez(tmp_path/f"{name}.npz", rng.integers(0, 256, (n, 12, 16, 3), np.uint8))
    line = ["fid", tmp_path/"a.npz", "--reference", tmp_path/"b.npz", "--quiet", "--extractor", "torchvision-resnet18"]
    state, folder = torch.get_rng_state(), tmp_path/"hub"/"checkpoints"
    run(*line, code=2)
    said = capsys.readouterr().err
    assert f"resnet18-f37072fd.safetensors in {folder}" in said and "nothing is downloaded" in said
    folder.mkdir(parents=True)
    (folder/"resnet18-f37072fd.pth").write_bytes(b"a pickle")
    run(*line, code=2)
    assert "a pickle, which is not opened" in capsys.readouterr().err
    def write(seed): # random weights
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            save_tensors(folder/"resnet18-f37072fd.safetensors", get_model("resnet18", weights=None).state_dict())
    write(0)
    with pytest.warns(UserWarning, match="against 512 features"): run(*line, "--out", tmp_path/"x.json")
    told = read_json(tmp_path/"x.json")
    score = Score(**told["scores"][0])
    assert told["features"] == "torchvision-resnet18" and told["shape"] == "12x16 colour"
    assert re.fullmatch(r"torchvision-resnet18-\w{6}-\w{6}", score.extractor) and score.n_features == 512
    name, network = open_extractor("torchvision-resnet18")
    assert name == "torchvision-resnet18" and score.extractor.startswith(network.digest)
    write(1) # other weights, another name
    other = open_extractor("torchvision-resnet18")[1].digest
    assert other != network.digest
    with pytest.raises(ValueError, match="cannot compare"): min(score, Score(1., extractor=other))
    assert torch.equal(torch.get_rng_state(), state)
    tensors, _ = load_tensors(folder/"resnet18-f37072fd.safetensors")
    save_tensors(folder/"resnet18-f37072fd.safetensors", {k: v for k, v in tensors.items() if k != "conv1.weight"})
    capsys.readouterr()
    run(*line, code=2)
    assert "does not hold the weights of resnet18" in capsys.readouterr().err
    run(*line[:-1], "eyes", code=2)
    run("fid", tmp_path/"a.npz", "--extractor", "torchvision-resnet18", code=2)
    assert "needs --reference" in capsys.readouterr().err


def test_a_tilde_is_somebodys_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    draw_folder(tmp_path/"shapes", 40)
    (tmp_path/"shapes"/"square"/"broken.jpg").unlink()
    data = load_data("~/shapes", size=8)
    assert len(data) == 40 and data.path == str(tmp_path/"shapes")
    np.savez(tmp_path/"x.npz", data.images.movedim(1, 3).numpy())
    assert torch.equal(load_images("~/x.npz"), data.images) and torch.equal(load_data("~/x.npz").images, data.images)
    run("train", "--data", "~/shapes", "--size", 8, *STEPS, "--out", "~/m")
    assert read_json(tmp_path/"m"/"card.json")["data_from"]["path"] == str(tmp_path/"shapes")
    run("fid", "~/x.npz", "--reference", "~/shapes", "--quiet", "--out", "~/x.json")
    run("fid", "~/x.npz", "--reference", "~/m", "--quiet")
    assert read_json(tmp_path/"x.json")["n"] == 20
    for command in ("reconstruct", "interpolate"):
        run(command, "~/shapes", "--model", "~/m", "--n", 2, "--steps", 2, "--out", f"~/{command}.png", "--quiet")
    assert (tmp_path/"reconstruct.png").is_file() and not (tmp_path/"~").exists()


def test_a_second_training_of_the_same_folder_is_refused(tmp_path, capsys):
    line = ["train", "--data", "digits", *STEPS, "--out", tmp_path/"m"]
    hold = ("import sys; from slowddim.files import hold_file\n"
            "with hold_file(sys.argv[1]): print('held', flush=True), sys.stdin.read()")
    other = subprocess.Popen([sys.executable, "-c", hold, tmp_path/"m.checkpoint.safetensors"], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == "held\n"
    run(*line, code=2)
    said = capsys.readouterr().err
    assert f"--out {tmp_path/'m'}" in said and f"process {other.pid}" in said and said.count("\n") == 1
    assert not (tmp_path/"m").exists()
    other.kill() # what it leaves does not stop the next one
    other.wait()
    assert list(tmp_path.glob(".*.lock.slowddim"))
    run(*line)
    assert (tmp_path/"m"/"card.json").is_file() and not list(tmp_path.glob(".*"))


def test_the_version_is_one():
    root, cfg = Path(slowddim.__file__).parent.parent, ConfigParser(interpolation=None)
    if not (root/"settings.ini").is_file(): pytest.skip("needs a checkout")
    cfg.read(root/"settings.ini")
    heading = re.search(r"^## (\S+) \((\S+)\)$", (root/"CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert heading[1] == cfg["DEFAULT"]["version"] == slowddim.__version__
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", heading[2])

"A stranger's evening: a folder of images as one finds it, a model of them, samples, and a score."
import json
import shutil
import sys
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from slowddim import watch
from slowddim.cli import _epochs, main
from slowddim.data import ImageSet, load_data, load_own
from slowddim.ddpm import DDPM
from slowddim.fid import Score
from slowddim.files import load_tensors, read_json
from slowddim.pretrained import load_pretrained, trained_on
from slowddim.study import component_extractor, fashion_extractor
from slowddim.train import train
from slowddim.unet import UNet

TINY = "--widths 8 32 --patch-size 2 --bs 30 --precision fp32 --device cpu --quiet".split()


def run(*words, code=0): assert main([str(word) for word in words]) == code


def draw_folder(folder, n=300, seed=0): # two classes, in all the ways in which images are stored; one is broken
    rng = np.random.default_rng(seed)
    for kind in ("round", "square"): (folder/kind).mkdir(parents=True)
    for i in range(n):
        kind, (width, height) = ("round", "square")[i % 2], map(int, rng.integers(16, 40, 2))
        dark, bright = (tuple(map(int, rng.integers(lo, hi, 3))) for lo, hi in ((0, 80), (130, 256)))
        image = Image.new("RGB", (width, height), dark)
        pen = ImageDraw.Draw(image)
        (pen.ellipse if kind == "round" else pen.rectangle)((4, 4, width - 5, height - 5), bright)
        how, name = {}, folder/kind/f"{i:03d}.png"
        if i % 6 == 1: image = image.convert("L")
        if i % 6 == 2: image = image.convert("P")
        if i % 6 == 3: image.putalpha(image.convert("L").point(lambda v: 255 if v > 100 else 0))
        if i % 6 == 4:
            exif = Image.Exif()
            exif[0x0112] = 6
            name, how = name.with_suffix(".jpg"), dict(exif=exif)
        image.save(name, **how)
    (folder/"square"/"broken.jpg").write_bytes((folder/"round"/"004.jpg").read_bytes()[:300])
    return folder


@pytest.fixture(scope="module")
def evening(tmp_path_factory): # a folder, a model of its images, and the output of training
    home = tmp_path_factory.mktemp("evening")
    shapes, model = draw_folder(home/"shapes"), home/"model"
    run("train", "--data", shapes, "--size", 12, 16, "--skip-broken", *TINY, "--total-steps", 4, "--sample-every", 0,
        "--keep-every", 2, "--out", model)
    return SimpleNamespace(home=home, shapes=shapes, model=model)


def test_a_model_of_ones_own_images(evening):
    card, config = read_json(evening.model/"card.json"), read_json(evening.model/"config.json")
    assert card["data_from"] == dict(path=str(evening.shapes), size=[12, 16], channels=3)
    assert config["class_names"] == ["round", "square"] and config["image_size"] == [12, 16]
    assert card["steps"] == 4 and card["settings"]["n_images"] == 300
    assert Image.open(evening.model/"loss.png").width > 300
    strip = Image.open(evening.home/"model.samples.png")
    assert [int(k) for k in strip.text[watch._STEPS].split()] == [1, 2, 3, 4]
    assert strip.size == (2*(8*(16 + 2) + 2), 2*4*(12 + 4)) and strip.mode == "RGB"
    kept = [load_pretrained(str(evening.home/f"model.step{k:06d}"))[0] for k in (2, 4)]
    last, _ = load_pretrained(str(evening.model))
    equal = [all(torch.equal(v, last.state_dict()[k]) for k, v in m.state_dict().items()) for m in kept]
    assert equal == [False, True]


def test_samples_scores_round_trips_and_interpolations(evening, capsys):
    samples, scores, model = evening.home/"s.npz", evening.home/"fid.json", ("--model", evening.model)
    run("sample", *model, "--n", 20, "--label", "round", "--steps", 2, "--out", samples, "--device", "cpu", "--quiet")
    assert np.load(samples)["arr_0"].shape == (20, 12, 16, 3)
    capsys.readouterr()
    run("fid", samples, "--reference", evening.shapes, "--size", 12, 16, "--skip-broken", "--out", scores, "--quiet")
    told, found = capsys.readouterr().out, read_json(scores)
    assert "PCA Frechet" in told and "extractor pca37-" in told and "20 images against 150 of" in told
    assert found["n"] == found["held_out"] == 150 and found["shape"] == "12x16 colour" and found["features"] == "pca"
    fid = found["scores"][0]
    assert fid["value"] > fid["floor"] > 0 and fid["interval"][0] < fid["value"] < fid["interval"][1]
    run("fid", samples, "--reference", evening.model, "--out", evening.home/"again.json", "--quiet")
    again = read_json(evening.home/"again.json")["scores"][0]
    assert again == fid # the model knows where its images lie, and their size
    assert Score(**again) == Score(**fid)
    for command in ("reconstruct", "interpolate"):
        sheet = evening.home/f"{command}.png"
        run(command, evening.shapes, "--skip-broken", *model, "--n", 2, "--steps", 2, "--scale", 1, "--out", sheet,
            "--device", "cpu", "--quiet")
        run(command, *model, "--n", 2, "--steps", 2, "--scale", 1, "--out", sheet, "--device", "cpu", "--quiet")
        assert Image.open(sheet).mode == "RGB"
    network, _ = load_pretrained(str(evening.model))
    assert fashion_extractor(network).model.digest == component_extractor(network).model.digest == fid["extractor"]


def test_real_images_of_ones_own_score_better(tmp_path, capsys):
    a, b = (draw_folder(tmp_path/name, 64, seed) for seed, name in enumerate("ab"))
    for folder in (a, b): (folder/"square"/"broken.jpg").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path/"noise.npz", noise)
    found = {}
    for what in (a, tmp_path/"noise.npz"):
        run("fid", what, "--reference", b, "--size", 16, "--out", tmp_path/"x.json", "--quiet")
        found[what.stem] = Score(**read_json(tmp_path/"x.json")["scores"][0])
    assert found["a"] < found["noise"]/3
    run("fid", tmp_path/"noise.npz", "--reference", a, "--out", tmp_path/"y.json", "--quiet") # a has many sizes
    other = Score(**read_json(tmp_path/"y.json")["scores"][0])
    with pytest.raises(ValueError, match="cannot compare"): min(found["noise"], other)
    capsys.readouterr()
    np.savez(tmp_path/"large.npz", noise.repeat(3, 1).repeat(3, 2))
    for words, message in (((tmp_path/"large.npz", "--reference", tmp_path/"noise.npz"), "48x48"),
                           ((a, "--reference", b), "pass --size"), ((a, "--size", 16), "--size is for"),
                           ((a, "--extractor", "pca"), "--reference"),
                           ((a, "--reference", tmp_path/"nothing"), "nothing"),
                           ((a, "--reference", b, "--extractor", "pca", "--classifier", "x"), "--classifier")):
        run("fid", *words, "--quiet", code=2)
        assert message in capsys.readouterr().err
    run("fid", tmp_path/"large.npz", "--reference", tmp_path/"noise.npz", "--size", 48, "--quiet")
    assert "at 32x32 colour" in capsys.readouterr().out # what is larger is described as it looks at 32 pixels


def test_grey_images_by_the_classifier_and_another_reference(tmp_path, capsys):
    x = np.zeros((40, 28, 28, 1), np.uint8)
    x[:, 6:20, 6:20] = np.random.default_rng(0).integers(100, 256, (40, 14, 14, 1))
    np.savez(tmp_path/"x.npz", x)
    np.savez(tmp_path/"y.npz", x[::-1])
    run("fid", tmp_path/"x.npz", "--reference", tmp_path/"y.npz", "--extractor", "classifier", "--out",
        tmp_path/"a.json", "--quiet")
    ours = Score(**read_json(tmp_path/"a.json")["scores"][0])
    with pytest.raises(ValueError, match="cannot compare"): min(ours, Score(1., extractor=ours.extractor.split("-")[0]))


@pytest.mark.parametrize("form", ["parquet", "hub", "npz", "Dataset", "DatasetDict"])
def test_tables_are_read_like_folders(form, tmp_path):
    folder = draw_folder(tmp_path/"shapes", 24)
    (folder/"square"/"broken.jpg").unlink()
    expected = load_data(folder, size=(12, 16))
    paths = sorted(folder.glob("*/*"))
    kinds = datasets.Features(picture=datasets.Image(), label=datasets.ClassLabel(names=["round", "square"]))
    rows = dict(picture=list(map(str, paths)), label=[p.parent.name for p in paths])
    table = what = datasets.Dataset.from_dict(rows, kinds)
    if form == "DatasetDict": what = datasets.DatasetDict(train=table)
    if form == "parquet": table.to_parquet(what := tmp_path/"some.parquet")
    if form == "hub":
        (tmp_path/"hub"/"data").mkdir(parents=True)
        table.to_parquet(tmp_path/"hub"/"data"/"train-00000-of-00001.parquet")
        table.select([1, 2]).to_parquet(tmp_path/"hub"/"data"/"test-00000-of-00001.parquet")
        what = tmp_path/"hub"
        assert len(load_data(what, "test", size=8)) == 2
    if form == "npz":
        names = [p.parent.name for p in paths]
        np.savez(what := tmp_path/"some.npz", arr_0=expected.images.movedim(1, 3).numpy(), labels=names)
    found = load_data(what if form in ("Dataset", "DatasetDict") else str(what), size=(12, 16))
    assert torch.equal(found.images, expected.images) and torch.equal(found.labels, expected.labels)
    assert found.classes == expected.classes and found.own


def test_tables_with_faults(tmp_path):
    good = np.zeros((3, 8, 8), np.uint8)
    for labels, message in (([0, 1], "one per image"), ([0.5, 1, 2], "whole numbers")):
        np.savez(tmp_path/"x.npz", arr_0=good, labels=labels)
        with pytest.raises(ValueError, match=message): load_own(tmp_path/"x.npz")
    np.savez(tmp_path/"x.npz", arr_0=good, labels=[0, 1, 2], classes=["a", "b"])
    with pytest.raises(ValueError, match="0 ... 1"): load_own(tmp_path/"x.npz")
    (tmp_path/"x.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(ValueError, match="cannot be read as parquet"): load_own(tmp_path/"x.parquet")
    bad = datasets.Dataset.from_dict({"image": [{"bytes": b"no image", "path": None}, None]},
                                     datasets.Features(image=datasets.Image()))
    with pytest.raises(ValueError, match="2 of 2 images"): load_own(bad, skip_broken=True)
    with pytest.raises(ValueError, match="one column of images"): load_own(datasets.Dataset.from_dict(dict(a=[1])))
    with pytest.raises(ValueError, match="no 'test' split"): load_data(datasets.DatasetDict(train=bad), "test")


def test_a_folder_may_have_the_name_of_a_known_set(tmp_path, monkeypatch, capsys):
    draw_folder(tmp_path/"digits", 20)
    (tmp_path/"digits"/"square"/"broken.jpg").unlink()
    data = load_data(tmp_path/"digits", size=8)
    network = UNet(8, 3, (8, 32), patch_size=1)
    log = train(network, n_epochs=1, bs=20, data=data, seed=0, progress=False)
    assert log["test_losses"] == [] and log["data_from"]["path"] == str(tmp_path/"digits")
    run("train", "--data", tmp_path/"digits", "--size", 8, *TINY, "--total-steps", 2, "--out", tmp_path/"m")
    capsys.readouterr()
    run("reconstruct", "--model", tmp_path/"m", "--n", 3, "--steps", 2, "--out", tmp_path/"r.png", "--device", "cpu",
        "--quiet")
    assert "3 images of digits/train" in capsys.readouterr().out
    network, _ = load_pretrained(str(tmp_path/"m"))
    with pytest.raises(ValueError, match="give images"): trained_on(network)
    shutil.rmtree(tmp_path/"digits")
    run("reconstruct", "--model", tmp_path/"m", "--steps", 2, "--out", tmp_path/"r.png", "--quiet", code=2)
    assert "no longer at" in capsys.readouterr().err


@pytest.mark.parametrize("how", [[], ["--unconditional"], ["--classes", "square"]])
def test_class_folders_make_a_conditional_network(how, tmp_path):
    draw_folder(tmp_path/"shapes", 20)
    run("train", "--data", tmp_path/"shapes", "--size", 8, "--skip-broken", *TINY, "--total-steps", 1, *how,
        "--out", tmp_path/"m")
    names = read_json(tmp_path/"m"/"config.json").get("class_names")
    assert names == (None if how else ["round", "square"])
    if "--classes" in how: assert read_json(tmp_path/"m"/"card.json")["settings"]["n_images"] == 10


def test_steps_if_nobody_says_how_many(caplog):
    def images(n, own): return ImageSet("x", "train", torch.zeros(n, 1, 1, 1), torch.zeros(n), ("a",), own=own)
    assert _epochs(images(300, True), 64, None, None)*5 == 3000
    assert _epochs(images(60_000, True), 64, None, None) == _epochs(images(300, False), 64, None, None) == 6
    assert not caplog.messages
    assert _epochs(images(300, True), 64, 6, None) == 6
    assert "30 steps only" in caplog.messages[0] and "--total-steps 3000" in caplog.messages[0]


def test_looking_changes_nothing(tmp_path):
    "The weights are bit-equal with and without strips and copies, and after a resumed run too."
    draw_folder(tmp_path/"shapes", 20)
    common = ["train", "--data", tmp_path/"shapes", "--size", 8, "--skip-broken", *TINY, "--total-steps", 3,
              "--dropout", 0.1]
    looking = ["--sample-every", 0, "--keep-every", 2]
    run(*common, "--out", tmp_path/"a")
    run(*common, *looking, "--out", tmp_path/"b")

    class PowerCut(Exception): pass
    draw = watch.Watch._draw
    def cut(self, run, network):
        if run.step == 2:
            run.save(tmp_path/"c.checkpoint.safetensors")
            raise PowerCut
        draw(self, run, network)
    watch.Watch._draw = cut
    try: run(*common, *looking, "--out", tmp_path/"c", code=2)
    finally: watch.Watch._draw = draw
    assert load_tensors(tmp_path/"c.checkpoint.safetensors")[1]["step"] == 2
    run(*common, *looking, "--out", tmp_path/"c")
    a, b, c = (read_json(tmp_path/name/"card.json") for name in "abc")
    assert a["digest"] == b["digest"] == c["digest"]
    steps = [Image.open(tmp_path/f"{name}.samples.png").text[watch._STEPS] for name in "bc"]
    assert steps == ["1 2 3", "1 3"] # the second was lost with the power
    watch._drop_rows(tmp_path/"b.samples.png", 0) # what a new run begins with
    assert not (tmp_path/"b.samples.png").exists()


def test_trackers(tmp_path, monkeypatch, capsys):
    from accelerate import tracking
    told = []

    class Notes(tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "trackio", False, None
        def __init__(self, name, **kwargs):
            super().__init__()
            told.append(("name", name))
        def start(self): told.append(("start", None))
        def store_init_configuration(self, values): told.append(("settings", values))
        def log(self, values, step=None, **kwargs): told.append((step, values))
        def finish(self): told.append(("finish", None))

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(__spec__=SimpleNamespace(name="trackio")))
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "trackio", Notes)
    line = ["train", "--data", "digits", *TINY[:-1], "--quiet", "--total-steps", 3, "--lr", 0.01, "--out", tmp_path/"m"]
    run(*line, "--log-with", "trackio")
    kinds = [kind for kind, _ in told]
    assert kinds == ["name", "start", "settings", 1, 2, 3, "finish"]
    assert told[2][1]["bs"] == 30 and {"loss", "lr", "images_seen"} <= told[3][1].keys() and "test_loss" in told[5][1]
    log = read_json(tmp_path/"m"/"log.json")
    assert [values["loss"] for kind, values in told[3:6]] == [loss for _, loss in log["losses"]]
    monkeypatch.setattr(watch, "find_spec", lambda name: None)
    capsys.readouterr()
    run(*line, "--log-with", "wandb", code=2)
    assert "pip install 'slowddim[trackers]'" in capsys.readouterr().err
    run(*line, "--log-with", "paper", code=2)


def test_files_of_others_are_refused_before_the_training(tmp_path, capsys):
    Image.new("L", (9, 9)).save(tmp_path/"m.samples.png")
    line = ["train", "--data", "digits", *TINY, "--total-steps", 1, "--out", tmp_path/"m"]
    run(*line, "--sample-every", 1, code=2)
    (tmp_path/"o").mkdir()
    (tmp_path/"o"/"schedule.json").write_text(json.dumps(dict(monday="tennis")))
    run(*line[:-1], tmp_path/"o", code=2)
    assert "belongs to another program" in capsys.readouterr().err
    with pytest.raises(ValueError, match="timesteps"): watch.Watch(tmp_path/"m", DDPM(n_steps=10), timesteps=11)

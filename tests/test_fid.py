"The shipped eyes: what their card says is true, scores are what they claim, and the command line says so."
import json
import math

import numpy as np
import pytest
import torch
from conftest import needs_data
from PIL import Image

from slowddim.classifier import accuracy, load_classifier
from slowddim.cli import main
from slowddim.data import load_data
from slowddim.distances import moments
from slowddim.data import as_images
from slowddim.fid import REFERENCE_FILE, ImageEval, image_features, reference_key
from slowddim.files import load_tensors, read_json, weights_dir

FOLDER = weights_dir()/"fashion_mnist_classifier"


@pytest.fixture(scope="module")
def judge(): return ImageEval.fashion_mnist()


@pytest.fixture(scope="module")
def garments(judge): # something to score without a data set
    from slowddim.generate import sample_images
    from slowddim.pretrained import load_pretrained
    return sample_images(*load_pretrained(), 64, 5, progress=False)


def test_files_fit_together_and_are_small(judge, root):
    facts = load_tensors(FOLDER/REFERENCE_FILE)[1]
    assert facts["extractor"] == judge.model.digest == read_json(root/"results"/"classifier.json")["digest"]
    assert facts["n"] == 60_000 and len(judge.held_out) == 10_000 and len(judge.mean) <= 128
    assert (FOLDER/"classifier.safetensors").stat().st_size <= 2e6
    assert sum(p.stat().st_size for p in weights_dir().rglob("*.safetensors")) < 20e6


def test_accuracy_on_record(root):
    facts = read_json(root/"results"/"classifier.json")
    assert facts["accuracy"] >= 0.935 and facts["n_test"] == 10_000
    assert np.mean(list(facts["per_class"].values())) == pytest.approx(facts["accuracy"], abs=1e-3)


@needs_data
def test_accuracy_and_reference_on_the_real_test_set(judge, root):
    test = load_data("fashion_mnist", "test")
    written = read_json(root/"results"/"classifier.json")["accuracy"]
    assert accuracy(judge.model, test) == pytest.approx(written, abs=5e-4)
    features = image_features(judge.model, test.batch(slice(0, 500)))
    assert (features - judge.held_out[:500]).abs().max() < 2e-3*features.abs().max() # stored in half precision
    key = reference_key(load_data("fashion_mnist"), judge.model.digest)
    assert load_tensors(FOLDER/REFERENCE_FILE)[1]["key"] == key


def test_the_floor_falls_with_n_and_is_on_record(judge, root):
    floors = [judge.floor(n) for n in (256, 1000, 5000, 10_000)]
    assert floors == sorted(floors, reverse=True) and judge.floor(20_000) == judge.floor(10_000)
    recorded = read_json(root/"results"/"classifier.json")["floor"]
    assert [recorded[str(n)] for n in (256, 1000, 5000, 10_000)] == pytest.approx(floors, rel=0.02, abs=1e-4)


def test_bytes_floats_and_padding_score_the_same(judge, garments):
    with pytest.warns(UserWarning, match="the bias is larger"): score = judge.fid(garments, n_boot=0)
    x = as_images(garments, (1, 28, 28))
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), value=-1.)
    for same in (garments[..., 0], garments.movedim(-1, 1), x, padded, judge.features(x)):
        assert judge.fid(same, n_boot=0) == pytest.approx(float(score), rel=1e-6)
    assert (score.n, score.n_features, score.extractor, score.interval) == (64, 128, judge.model.digest, None)
    assert score.floor == judge.floor(64) and score > score.floor
    small = ImageEval(judge.model, dict(mean=judge.mean, cov=judge.cov, held_out=judge.held_out), bs=7)
    assert small.fid(garments, n_boot=0) == pytest.approx(float(score), rel=1e-5)


def test_interval_kid_and_infinity(judge):
    x = judge.held_out[:2048]
    fid, kid, limit = judge.fid(x), judge.kid(x), judge.fid_infinity(x)
    assert fid.interval[0] < fid < fid.interval[1] and kid.interval[0] < 0.01 and kid.floor == 0
    assert float(limit) < float(fid) and limit.kind == "FID_inf" and abs(judge.distance(x) - fid) < 1e-12
    far, away = judge.fid(x + 1.), x.double().mean(0) - judge.mean # a shift moves the means and nothing else
    assert float(far) - float(fid) == pytest.approx(((away + 1).square().sum() - away.square().sum()).item(), rel=1e-6)


def test_one_picture_is_no_crowd(judge):
    for lone in (judge.held_out[:1], -torch.ones(1, 1, 28, 28)):
        with pytest.raises(ValueError, match="at least 2 images"): judge.fid(lone)


def test_weighted_moments_refuse_nothing_silently():
    x = torch.randn(50, 3)
    mean, cov = moments(x, torch.ones(50))
    assert torch.allclose(mean, x.double().mean(0)) and torch.allclose(cov, x.double().T.cov())


def test_command_line(garments, tmp_path, capsys):
    np.savez(tmp_path/"x.npz", arr_0=garments.numpy())
    with pytest.warns(UserWarning):
        assert main(["fid", str(tmp_path/"x.npz"), "--quiet", "--out", str(tmp_path/"s.json")]) == 0
    out = capsys.readouterr().out
    assert "FID" in out and "n=64" in out and "real images" in out and "recall" in out
    scores = json.loads((tmp_path/"s.json").read_text())["scores"]
    assert [s["kind"] for s in scores] == ["FID", "KID", "precision", "recall"] and math.isfinite(scores[0]["value"])
    (tmp_path/"folder").mkdir()
    for k, picture in enumerate(garments[..., 0].numpy()):
        Image.fromarray(picture).save(tmp_path/"folder"/f"{k:02}.png")
    with pytest.warns(UserWarning):
        assert main(["fid", str(tmp_path/"folder"), "--quiet", "--out", str(tmp_path/"f.json")]) == 0
    again = json.loads((tmp_path/"f.json").read_text())["scores"]
    assert again[0]["value"] == pytest.approx(scores[0]["value"], rel=1e-6)
    np.savez(tmp_path/"y.npz", other=garments.numpy())
    np.savez(tmp_path/"z.npz", arr_0=np.array([{}], dtype=object))
    (tmp_path/"empty").mkdir()
    for bad in ("nothing.npz", "y.npz", "z.npz", "empty", "x.txt"):
        assert main(["fid", str(tmp_path/bad), "--quiet"]) == 2, bad
        assert "slowddim fid:" in capsys.readouterr().err


def test_other_classifiers_and_broken_ones_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match="not a classifier's folder"): ImageEval.fashion_mnist(tmp_path)
    assert load_classifier().digest == load_classifier(FOLDER).digest


def test_floors_of_other_draws_and_double_precision(judge, garments):
    assert judge.floor(500, draws=1) != judge.floor(500) and judge.floor(500) == judge.floor(500, draws=8)
    floats = as_images(garments, (1, 28, 28))
    assert as_images(floats.double(), (1, 28, 28)).dtype == torch.float32
    with pytest.warns(UserWarning): assert torch.equal(judge.features(floats.double()), judge.features(floats))

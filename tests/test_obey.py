"The second classifier is what its card and its results say, and labelled images are counted as they should be."
import math
from dataclasses import replace

import pytest
import torch
from conftest import needs_data
from torch import nn

from slowddim.classifier import CLASSIFIER_FILE, PlainClassifier, accuracy, load_classifier, save_classifier
from slowddim.data import load_data
from slowddim.judges import read_as_asked, _wilson_interval
from slowddim.files import CARD_FILE, CONFIG_FILE, read_json, repository_dir, write_json

FOLDER = repository_dir()/"fashion_mnist_classifier_second"


@pytest.fixture(scope="module")
def second(): return load_classifier(FOLDER)


@pytest.fixture(scope="module")
def recorded(root): return read_json(root/"results"/"classifier_second.json")


class Brightness(nn.Module): # a classifier whose answers are known: ten grey levels
    config, digest = dict(image_size=28), "brightness"
    def forward(self, x): return -(x.mean((1, 2, 3))[:, None] - torch.linspace(-0.9, 0.9, 10)).abs()


@pytest.fixture
def grey(): return torch.linspace(-0.9, 0.9, 10).repeat(3)[:, None, None, None].expand(30, 1, 28, 28)


def test_folder_card_and_results_agree(second, recorded, root):
    assert isinstance(second, PlainClassifier) and not second.training
    assert read_json(FOLDER/CONFIG_FILE)["kind"] == "plain"
    card = read_json(FOLDER/CARD_FILE)
    assert card["digest"] == second.digest == recorded["digest"] and card["command"] == recorded["command"]
    assert card["bytes"] == (FOLDER/CLASSIFIER_FILE).stat().st_size <= 1_000_000
    assert "scores nothing else" in card["duty"] and card["duty"] == recorded["duty"]
    assert card["settings"]["n_images"] == 60_000 and card["data"] == "fashion_mnist" and card["name"] == FOLDER.name
    assert card["accuracies"][-1][1] == pytest.approx(recorded["accuracy"], abs=1e-3) # half precision costs nothing


def test_it_differs_from_the_one_that_scores(second):
    first = load_classifier()
    assert type(first) is not type(second) and first.digest != second.digest
    assert first.card["settings"]["seed"] != second.card["settings"]["seed"]
    kinds = [{type(m) for m in model.modules()} for model in (first, second)]
    assert nn.BatchNorm2d in kinds[0] and nn.BatchNorm2d not in kinds[1] and nn.GroupNorm in kinds[1]


def scores_in(found): # every dictionary of `Score.facts` inside a results file
    if isinstance(found, list): found = dict(enumerate(found))
    if not isinstance(found, dict): return
    if {"kind", "value", "extractor"} <= found.keys(): yield found
    for v in found.values(): yield from scores_in(v)


def test_no_score_stands_on_it(second, root):
    scores = [s for path in (root/"results").glob("*.json") for s in scores_in(read_json(path))]
    extractors = {s["extractor"] for s in scores}
    assert len(scores) > 20 and second.digest not in extractors


def test_accuracy_on_record(recorded):
    assert recorded["accuracy"] >= 0.93 and recorded["n_test"] == 10_000
    per_class = recorded["per_class"].values()
    assert len(per_class) == 10 and sum(per_class)/10 == pytest.approx(recorded["accuracy"], abs=1e-3)


@needs_data
def test_accuracy_and_chance_on_real_images(second, recorded):
    test = load_data("fashion_mnist", "test")
    test = replace(test, images=test.images[:2000], labels=test.labels[:2000])
    found = read_as_asked(second, test.images, test.labels, bs=500)
    assert found["share"] == accuracy(second, test)
    assert found["share"] == pytest.approx(recorded["accuracy"], abs=4*math.sqrt(0.06*0.94/2000))
    assert found["interval"] == _wilson_interval(round(found["share"]*2000), 2000) and found["n"] == 2000
    assert list(found["per_class"]) == list(test.classes) and found["extractor"] == second.digest
    shuffled = test.labels[torch.randperm(2000, generator=torch.Generator().manual_seed(0))]
    chance = read_as_asked(second, test.images, shuffled)
    assert chance["share"] == pytest.approx(0.1, abs=4*math.sqrt(0.09/2000))
    padded = torch.nn.functional.pad(test.batch(slice(0, 200)), (2, 2, 2, 2), value=-1.)
    few, labels = test.images[:200], test.labels[:200]
    assert read_as_asked(second, padded, labels) == read_as_asked(second, few, labels)


@needs_data
def test_the_record_is_of_all_test_images(second, recorded):
    assert accuracy(second, load_data("fashion_mnist", "test")) == pytest.approx(recorded["accuracy"], abs=5e-4)


def test_counting_with_known_answers(grey):
    asked = torch.arange(10).repeat(3)
    right = read_as_asked(Brightness(), grey, asked)
    assert right["share"] == 1 and right["interval"][0] > 0.85 and right["interval"][1] == 1
    assert right["asked"] == {str(k): 3 for k in range(10)} and right["extractor"] == "brightness"
    asked[:6] = 9 # the six darkest asked to be the brightest: 24 of 30 are left
    some = read_as_asked(Brightness(), grey, asked, bs=7)
    assert some["share"] == 0.8 and some["interval"] == _wilson_interval(24, 30)
    assert some["per_class"]["9"] == pytest.approx(3/9) and some["per_class"]["0"] == 1 and some["asked"]["9"] == 9
    only = read_as_asked(Brightness(), grey, torch.full((30,), 4))
    assert only["per_class"] == {"4": 0.1} and only["share"] == 0.1 # what was not asked for has no share
    assert read_as_asked(Brightness(), grey, asked.int())["share"] == 0.8


@pytest.mark.parametrize("n, labels, kind, message", [
    (0, [], ValueError, "at least 2"), (30, [0]*29, ValueError, "one per image"), (30, 3, ValueError, "one per image"),
    (30, [0]*29 + [10], ValueError, r"0 \.\.\. 9, got 0 \.\.\. 10"), (30, [-1]*30, ValueError, r"got -1 \.\.\. -1"),
    (30, [0.]*30, TypeError, "integers"), (30, [True]*30, TypeError, "integers"),
])
def test_wrong_labels_are_refused(grey, n, labels, kind, message):
    with pytest.raises(kind, match=message): read_as_asked(Brightness(), grey[:n], labels)


@pytest.mark.parametrize("k, n", [(0, 1), (1, 1), (3, 10), (940, 1000), (10_000, 10_000)])
def test_wilson_interval_solves_its_equation(k, n):
    low, high = _wilson_interval(k, n)
    assert 0 <= low <= k/n <= high <= 1 and low < high
    for p in (low, high): assert abs(k/n - p) == pytest.approx(1.96*math.sqrt(p*(1 - p)/n), abs=1e-9)
    wider = _wilson_interval(k, n, z=3)
    assert wider[0] <= low and wider[1] >= high and wider != (low, high)


@pytest.mark.parametrize("k, n", [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k, n):
    with pytest.raises(ValueError): _wilson_interval(k, n)


def test_kinds_of_classifiers(tmp_path):
    torch.manual_seed(0)
    model = PlainClassifier(widths=(8, 16), depths=(2, 1), n_features=12, n_classes=3, image_size=8).eval()
    save_classifier(model, tmp_path, dict(data="none"))
    back, x = load_classifier(tmp_path), torch.rand(2, 1, 8, 8)*2 - 1
    assert back.config == model.config and back.features(x).shape == (2, 12) and back(x).shape == (2, 3)
    assert torch.allclose(back(x), model(x), atol=0.02)
    write_json(tmp_path/CONFIG_FILE, dict(model.config, kind="odd"))
    with pytest.raises(ValueError, match="kind of classifier must be one of 'residual', 'plain', got 'odd'"):
        load_classifier(tmp_path)

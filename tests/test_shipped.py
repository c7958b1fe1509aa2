"The shipped model: what the card says is true, and the pictures are clothes."
import ast
from pathlib import Path

import torch

from slowddim import all as everything
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained
from slowddim.schedule import linear_schedule
from slowddim.files import MODEL_FILE, load_tensors, read_json, shipped_names, tensors_digest, weights_dir


def test_card_and_size(root):
    assert "fashion_mnist" in shipped_names()
    for name in shipped_names():
        folder = weights_dir()/name
        card, size = read_json(folder/"card.json"), (folder/MODEL_FILE).stat().st_size
        assert card["digest"] == tensors_digest(load_tensors(folder/MODEL_FILE)[0]) and card["bytes"] == size <= 18e6
        assert card["command"] in (folder/"README.md").read_text("utf-8")
        assert {"data", "command", "seconds", "machine", "test_loss",
                "settings"} <= card.keys() and card["settings"]["n_images"] == 60000
        assert read_json(root/"results"/f"train_{name}.json")["digest"] == card["digest"]
    assert sum(p.stat().st_size for p in weights_dir().rglob("*.safetensors")) < 20e6


def test_schedule_comes_with_the_model():
    model, schedule = load_pretrained("fashion_mnist")
    assert schedule == linear_schedule() and not model.training and next(model.parameters()).dtype == torch.float32


def test_pictures_look_like_the_data():
    "Coarse facts of Fashion-MNIST: mean brightness .286, corners dark, and 64 samples are not one garment 64 times."
    x = sample_images(*load_pretrained("fashion_mnist"), 64, 20, progress=False).float()/255
    assert 0.2 < x.mean().item() < 0.4
    assert x[:, :2, :2].mean().item() < 0.05
    brightness = x.mean((1, 2, 3))
    assert brightness.std().item() > 0.06


def test_all_offers_what_lessons_need(root):
    names = ("torch np plt Path partial DDPMScheduler DDIMScheduler linear_schedule DDPM ddim_sample sample train "
             "show_images load_pretrained fashion_unet")
    for name in names.split(): assert hasattr(everything, name), name
    nodes = ast.walk(ast.parse(Path(everything.__file__).read_text("utf-8")))
    modules = [n.module for n in nodes if isinstance(n, ast.ImportFrom)]
    starred = {m.split(".")[1] for m in modules if m.startswith("slowddim.")}
    others = {"__init__", "__main__", "_modidx", "all", "cli", "commands", "studies"}
    assert starred == {p.stem for p in (root/"slowddim").glob("*.py")} - others

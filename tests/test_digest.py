"A digest names weights: the same in any file, another after any change, and nothing resumes other weights."
import hashlib
import json
import re
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from conftest import ROOT

from slowddim.fast import model_fingerprint
from slowddim.generate import sample_images, sample_to_npz
from slowddim.continuous import AnglePredictor
from slowddim.noising import NoisePredictor
from slowddim.pretrained import copy_weights_, load_pretrained, save_pretrained
from slowddim.schedule import cosine_schedule
from slowddim.unet import UNet
from slowddim.files import CARD_FILE, MODEL_FILE, load_tensors, read_json, read_model_folder
from slowddim.files import save_model_folder, save_tensors, tensors_digest, write_json

sys.path.insert(0, str(ROOT/"tools"))
import rewrite_digests as rewriting # noqa: E402

sys.path.remove(str(ROOT/"tools"))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return UNet(sample_size=8, widths=(32, 32), patch_size=1).eval().requires_grad_(False)


@pytest.fixture
def folder(small, schedule, tmp_path):
    save_pretrained(small, schedule, tmp_path/"small", dict(data="none"))
    return tmp_path/"small"


def with_header(file, order): # the bytes of a safetensors file whose header has its facts in another order
    blob = file.read_bytes()
    n = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8:8 + n])
    header["__metadata__"] = dict(order(header["__metadata__"].items()))
    return blob[:8] + json.dumps(header, separators=(",", ":")).encode().ljust(n) + blob[8 + n:]


def old_digest(folder): return hashlib.sha256((folder/MODEL_FILE).read_bytes()).hexdigest()[:12]


def test_twenty_saves_of_equal_weights_are_one_model(small, schedule, tmp_path):
    folders = [tmp_path/str(i) for i in range(20)]
    digests = {save_pretrained(small, schedule, folder)["digest"] for folder in folders}
    assert len(digests) == len({(folder/MODEL_FILE).read_bytes() for folder in folders}) == 1
    assert digests == {read_model_folder(folder)[2]["digest"] for folder in folders}


def test_the_order_of_the_header_does_not_matter(folder):
    blobs = [with_header(folder/MODEL_FILE, order) for order in (sorted, lambda items: sorted(items, reverse=True))]
    assert blobs[0] != blobs[1] and len(blobs[0]) == len(blobs[1])
    for blob in blobs:
        (folder/MODEL_FILE).write_bytes(blob)
        assert load_pretrained(str(folder))[0].card["digest"] == read_json(folder/CARD_FILE)["digest"]


def test_any_name_and_fact_survives_the_sorted_header(tmp_path):
    tensors = {'a "quoted"\\ name': torch.ones(2), "tab\tline\nbell\x07del\x7f": torch.zeros(3, dtype=torch.bfloat16),
               "größe/\u2028😀": torch.tensor(3), "empty": torch.zeros(0, 4)}
    facts = {"größe": 'a "fact"\n', "nested": [1, {"x": None}]}
    back, said = load_tensors(save_tensors(tmp_path/"x.safetensors", tensors, facts))
    assert said == facts and back.keys() == tensors.keys()
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_its_copies_agree(dtype):
    half = {"w": torch.randn(2, 3, 4, 5).to(dtype), "n": torch.arange(3)}
    digest = tensors_digest(half)
    for other in (torch.float32, torch.float64):
        assert tensors_digest(half | dict(w=half["w"].to(other))) == digest
    assert tensors_digest(half | dict(n=half["n"].int())) == digest
    strided = half["w"].float().to(memory_format=torch.channels_last)
    assert tensors_digest(dict(w=strided, n=torch.arange(6)[::2]//2)) == digest
    assert tensors_digest(half | dict(w=half["w"].float() + 1e-3)) != digest


def test_names_and_shapes_cannot_be_traded(): # what is hashed can be read back in one way only
    a, b = torch.ones(1), torch.zeros(1)
    digests = {tensors_digest(d) for d in ({"a": a, "b": b}, {"a": b, "b": a}, {"ab": torch.cat([a, b])},
                                           {"a": a[None], "b": b}, {"a": a}, {"a": a, "b": b[:0]}, {})}
    assert len(digests) == 7


def test_tampered_weights_are_refused_by_both_digests(folder):
    tensors, _ = load_tensors(folder/MODEL_FILE)
    said = read_json(folder/CARD_FILE)["digest"]
    tensors["head.2.bias"][0] += 1
    save_tensors(folder/MODEL_FILE, tensors)
    with pytest.raises(ValueError, match="the file is not the one described") as caught: load_pretrained(str(folder))
    assert tensors_digest(tensors) in str(caught.value) and said in str(caught.value)


def test_a_card_with_the_digest_of_the_file_is_accepted(folder):
    card = read_json(folder/CARD_FILE)
    write_json(folder/CARD_FILE, dict(card, digest=old_digest(folder)))
    model, _ = load_pretrained(str(folder))
    assert model.card == card and tensors_digest(model.state_dict()) == card["digest"] != old_digest(folder)
    write_json(folder/CARD_FILE, dict(card, digest="0123456789ab"))
    with pytest.raises(ValueError, match="its card says 0123456789ab"): load_pretrained(str(folder))


def test_a_folder_without_a_card_has_none(tmp_path):
    save_model_folder(tmp_path, {"w": torch.ones(2)}, {}, None, {})
    (tmp_path/CARD_FILE).unlink()
    assert read_model_folder(tmp_path)[2] == {}


def test_copied_weights_are_named_as_their_card_names_them(small, schedule, folder):
    twin = UNet(sample_size=8, widths=(32, 32), patch_size=1)
    digest = copy_weights_(twin, str(folder))
    assert digest == read_json(folder/CARD_FILE)["digest"] == tensors_digest(twin.state_dict())
    (folder/CARD_FILE).unlink()
    assert copy_weights_(twin, str(folder)) == digest
    angle = AnglePredictor(small, 50)
    said = save_pretrained(angle, angle.schedule, folder.parent/"angle")["digest"]
    assert copy_weights_(AnglePredictor(twin, 50), str(folder.parent/"angle")) == said


def test_a_fingerprint_is_of_the_weights_as_they_are(folder, schedule):
    model, twin = (load_pretrained(str(folder))[0] for _ in range(2))
    before = model_fingerprint(model)
    assert before == model_fingerprint(twin) == model_fingerprint(model.to(memory_format=torch.channels_last))
    next(model.parameters()).view(-1)[:1] += 1
    assert model_fingerprint(model) != before and model.card["digest"] == twin.card["digest"]
    next(model.parameters()).view(-1)[:1] -= 1
    model.load_state_dict(twin.state_dict())
    assert model_fingerprint(model) == before
    heard = [twin, deepcopy(twin).half(), AnglePredictor(twin, 50), AnglePredictor(twin, 50, mean=0.1),
             *[NoisePredictor(twin, schedule, said) for said in ("x_0", "v")], NoisePredictor(twin, cosine_schedule())]
    assert len({model_fingerprint(m) for m in heard}) == len(heard)


def test_models_without_weights_never_agree(schedule):
    for model in (lambda x, t: x, NoisePredictor(lambda x, t: x, schedule), torch.nn.Identity()):
        assert model_fingerprint(model) != model_fingerprint(model)


@pytest.mark.parametrize("change", [False, True])
def test_changed_weights_do_not_resume(change, folder, tmp_path):
    model, schedule = load_pretrained(str(folder))
    how, calls = dict(timesteps=1, batch_size=2, progress=False), []
    def cut(module, args):
        calls.append(1)
        if len(calls) == 2: raise RuntimeError("cut")
    hook = model.register_forward_pre_hook(cut)
    with pytest.raises(RuntimeError): sample_to_npz(tmp_path/"x.npz", model, schedule, 4, **how)
    hook.remove()
    if change: model.head[2].bias += 0.5
    counting = model.register_forward_pre_hook(cut)
    sample_to_npz(tmp_path/"x.npz", model, schedule, 4, **how)
    counting.remove()
    assert len(calls) == 2 + (2 if change else 1) # both batches again, or the one that was missing
    assert np.array_equal(np.load(tmp_path/"x.npz")["arr_0"], sample_images(model, schedule, 4, **how).numpy())


def test_no_old_digest_is_quoted(root):
    digests = rewriting.find_digests(root)
    assert len(digests) >= 9 and not set(digests) & set(digests.values())
    assert not rewriting.changed_texts(root, digests) and not rewriting.changed_references(root, digests)


def test_digests_are_rewritten_once(folder, tmp_path):
    root = tmp_path/"root"
    for path in ("models", "results"): (root/path).mkdir(parents=True)
    folder.rename(root/"models"/"small")
    folder = root/"models"/"small"
    card, old = read_json(folder/CARD_FILE), old_digest(folder)
    write_json(folder/CARD_FILE, dict(card, digest=old))
    write_json(root/"results"/"x.json", dict(digest=old, longer=f"{old}0", words=f"made by {old}."))
    digests = rewriting.find_digests(root)
    assert digests == rewriting.RETIRED | {old: card["digest"]}
    changed = rewriting.changed_texts(root, digests)
    assert set(changed) == {folder/CARD_FILE, root/"results"/"x.json"} # its README quotes the new one
    for file, text in changed.items(): file.write_text(text, "utf-8")
    assert read_json(folder/CARD_FILE) == card and not rewriting.changed_texts(root, digests)
    new = card["digest"]
    assert read_json(root/"results"/"x.json") == dict(digest=new, longer=f"{old}0", words=f"made by {new}.")


def test_the_retired_are_named_in_the_records(root):
    quoted = " ".join(p.read_text("utf-8") for p in (root/"results").glob("*.json"))
    for digest in rewriting.RETIRED.values(): assert re.search(digest, quoted), digest

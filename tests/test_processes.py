"Two processes, started by `torchrun` on the CPU, make what one makes, and one of them writes and prints."
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from slowddim import generate
from slowddim.cli import main
from slowddim.data import ImageSet
from slowddim.fid import ImageEval
from slowddim.files import load_tensors, read_json, save_tensors
from slowddim.generate import sample_images, sample_to_npz
from slowddim.pretrained import load_pretrained, save_pretrained
from slowddim.processes import shared_work
from slowddim.schedule import linear_schedule
from slowddim.train import train
from slowddim.unet import UNet

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENV = dict(os.environ, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
TRAIN = dict(lr=1e-3, bs=7, total_steps=20, seed=3, n_test=0, label_dropout=0.3, flips=True, ema=0.9, precision="fp32",
             progress=False)
SAMPLE = "sample --model model --n 11 --steps 2 --eta 1 --solver ddim --precision fp32 --device cpu"
COMMANDS = (f"{SAMPLE} --batch-size 3 --out a.npz", f"{SAMPLE} --batch-size 3 --out a.png", f"{SAMPLE} --out a.gif",
            "fid images.npz --batch-size 16 --out fid.json",
            "table solvers --model model --n 12 --steps 2 4 --solvers ddim --device cpu --out table.json",
            "interpolate --model model --n 1 --frames 3 --steps 2 --device cpu --out i.png")


def network(seed=0): # its last layer is not zero, as a fresh one's is
    torch.manual_seed(seed)
    model = UNet(sample_size=32, image_size=28, widths=(8, 32), num_class_embeds=2)
    with torch.no_grad():
        for p in model.parameters(): p.add_(0.05*torch.randn_like(p))
    return model


def noise(): # 25 images: the last of an epoch's batches of 7 has 4
    g = torch.Generator().manual_seed(5)
    return ImageSet("noise", "train", torch.randint(0, 256, (25, 1, 28, 28), generator=g, dtype=torch.uint8),
                    torch.arange(25) % 2, ("a", "b"))


class Stop(Exception): pass


def npz(path, after=None): # images 4 ... 20, in batches of 3; cut off after so many of them
    whole, (model, schedule) = generate._batches, load_pretrained("model", device="cpu")
    def cut(*args):
        for i, batch in enumerate(whole(*args)):
            if i == after: raise Stop
            yield batch
    with mock.patch.object(generate, "_batches", cut), contextlib.suppress(Stop):
        sample_to_npz(path, model, schedule, 17, 2, start=4, seed=2, batch_size=3, precision="fp32", progress=False)


def found(rank): # by the functions of the library -> tensors by name
    with shared_work():
        model, schedule = load_pretrained("model", device="cpu")
        images = sample_images(model, schedule, 11, 2, batch_size=4, precision="fp32", progress=False)
        features = ImageEval.fashion_mnist(bs=16).features(torch.from_numpy(np.load("images.npz")["arr_0"]))
        net = network(1 + rank) # all go on with the weights of the first
        log = train(net, opt_func=partial(torch.optim.Adam, eps=1e-5), data=noise(), ddpm=linear_schedule(),
                    checkpoint="run.safetensors", **TRAIN)
    return dict(images=images, features=features, losses=torch.tensor(log["losses"])[:, 1], **net.state_dict())


def told(line): # -> exit code, what was printed
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try: code = main(line.split())
        except SystemExit as stop: code = stop.code
    return [code, out.getvalue(), err.getvalue()]


def both(): # what each of two processes does
    rank = int(os.environ["RANK"])
    save_tensors(f"found{rank}.safetensors", found(rank))
    with shared_work():
        npz("begun by one.npz")
        npz("begun by two.npz", 2)
    seen = [told(line) for line in COMMANDS] + [told("sample --n x"), told("fid nothing.npz")]
    Path(f"seen{rank}.json").write_text(json.dumps(seen))
    whole = generate.to_images
    def broken(*args): # in the second process alone
        if rank == 1: raise ValueError("no such image")
        return whole(*args)
    with mock.patch.object(generate, "to_images", broken): raise SystemExit(main(COMMANDS[1].split()))


if __name__ == "__main__": both()


def torchrun(folder, *words): return subprocess.Popen([*LAUNCH, *words], cwd=folder, env=ENV, text=True,
                                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ours(text): # lines that are not the launcher's
    return [line for line in text.splitlines() if "slowddim" in line and not re.search("torch/|FAILED|File ", line)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory): # in which one and two processes have worked; what the launcher of the two ended with
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (70, 28, 28, 1), generator=g, dtype=torch.uint8).numpy()
    threads, before = torch.get_num_threads(), Path.cwd()
    torch.set_num_threads(1)
    try:
        for folder in (one, two):
            save_pretrained(network(), linear_schedule(), folder/"model")
            np.savez(folder/"images.npz", arr_0=images)
            os.chdir(folder)
            if folder == two: npz("begun by one.npz", 2)
            else:
                for name in ("begun by one.npz", "begun by two.npz"): npz(name)
                save_tensors("found0.safetensors", found(0))
                Path("seen0.json").write_text(json.dumps([told(line) for line in COMMANDS]))
        launched = torchrun(two, __file__)
        out, err = launched.communicate(timeout=300)
        return one, two, (launched.returncode, out, err)
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)


def test_functions_agree(folders):
    one, two, ended = folders
    assert (two/"seen1.json").is_file(), ended[2]
    a, b, c = (load_tensors(file)[0] for file in (one/"found0.safetensors", two/"found0.safetensors",
                                                   two/"found1.safetensors"))
    assert a.keys() == b.keys() and all(torch.equal(b[k], c[k]) for k in b), "the two differ"
    assert torch.equal(a["images"], b["images"])
    assert (a["features"].double() - b["features"].double()).abs().max() < 1e-9
    fresh = network(1).state_dict()
    assert max((a[k] - fresh[k]).abs().max() for k in fresh) > 1e-3
    assert max((a[k] - b[k]).abs().max() for k in (*fresh, "losses")) < 1e-5
    assert load_tensors(two/"run.safetensors")[1]["step"] == 20


def test_files_agree(folders):
    one, two, _ = folders
    for name in ("a.npz", "a.png", "a.gif", "i.png", "begun by one.npz"):
        assert (one/name).read_bytes() == (two/name).read_bytes(), name
    def rows(folder): return [{k: v for k, v in row.items() if "seconds" not in k}
                              for row in read_json(folder/"table.json")["rows"]]
    assert rows(one) == rows(two) and len(rows(two)) == 2
    scores = [read_json(folder/"fid.json")["scores"] for folder in (one, two)]
    assert all(a["value"] == pytest.approx(b["value"], rel=1e-9) for a, b in zip(*scores))
    left = {p.name for p in two.iterdir()} - {p.name for p in one.iterdir()}
    assert left == {"seen1.json", "found1.safetensors", "begun by two.npz.part"}


def test_one_process_goes_on_with_what_two_began(folders, monkeypatch):
    one, two, _ = folders
    monkeypatch.chdir(two)
    before, made = torch.get_num_threads(), []
    whole = generate.to_images
    monkeypatch.setattr(generate, "to_images", lambda *args: made.append(1) or whole(*args))
    torch.set_num_threads(1)
    try: npz("begun by two.npz")
    finally: torch.set_num_threads(before)
    assert len(made) == 4 # of 6 batches
    assert (one/"begun by two.npz").read_bytes() == (two/"begun by two.npz").read_bytes()


def test_one_prints(folders):
    one, two, (code, _, err) = folders
    alone, first, second = (json.loads(file.read_text()) for file in (one/"seen0.json", two/"seen0.json",
                                                                      two/"seen1.json"))
    def steady(words): return re.sub(r"[\d.]+ s\b|\d+.\d+(it|image|batch|row|step)/s|[ =#█▏▎▍▌▋▊▉|]+", "", words)
    for line, a, b, c in zip(COMMANDS, alone, first, second):
        assert a[0] == b[0] == c[0] == 0, (line, a, b, c)
        assert steady(a[1]) == steady(b[1]) and c[1:] == ["", ""], line
    assert [(a[0], b[0]) for a, b in zip(first[-2:], second[-2:])] == [(2, 2), (2, 2)]
    for a, b in zip(first[-2:], second[-2:]): assert len(ours(a[2] + b[2])) == 1, (a, b)
    assert code == 1 and ours(err) == ["slowddim sample: no such image"], err


def test_a_stopped_training_is_kept_once_and_gone_on_with(tmp_path, monkeypatch):
    "By the command line; one process goes on with what two have begun."
    (tmp_path/"data").mkdir()
    for k in range(20): Image.new("L", (8, 8), 10*k).save(tmp_path/"data"/f"{k}.png")
    line = ("train --data data --widths 8 32 --patch-size 1 --bs 10 --total-steps 100 --precision fp32 --device cpu "
            "--out model").split()
    launched = torchrun(tmp_path, "-m", "--", "slowddim", *line)
    shown = ""
    while not re.search(r" [1-9]\d*/100", shown): # until some steps are done
        read = os.read(launched.stderr.fileno(), 1000).decode(errors="replace")
        assert read, shown
        shown += read
    launched.send_signal(signal.SIGINT)
    out, err = launched.communicate(timeout=60)
    file = tmp_path/"model.checkpoint.safetensors"
    step = load_tensors(file)[1]["step"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", file.name] and 1 <= step < 100 and out == ""
    assert ours(err) == [f"slowddim train: stopped; {file.name} holds step {step} of 100; "
                         f"the same command goes on from here"]
    monkeypatch.chdir(tmp_path)
    assert main([*line, "--quiet"]) == 0
    log = read_json(tmp_path/"model"/"log.json")
    assert log["steps"] == 100 and len(log["losses"]) == 20 and not file.exists()

"A run that is killed goes on as if nothing had happened; real data trains."
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import needs_data

from slowddim.data import load_data
from slowddim.pretrained import load_pretrained
from slowddim.schedule import cosine_schedule
from slowddim.train import train
from slowddim.unet import UNet
from slowddim.files import load_tensors

RUN = """
import sys, torch
from slowddim.train import train
from slowddim.unet import UNet
torch.manual_seed(0)
net = UNet(sample_size=8, widths=(32, 32), patch_size=1)
train(net, lr=1e-3, n_epochs=4, bs=250, data="digits", seed=3, checkpoint=sys.argv[1], save_every=0, progress=False)
"""


def start(path): return subprocess.Popen([sys.executable, "-c", RUN, str(path)])


def test_killed_run_resumes_bit_for_bit(tmp_path):
    whole, cut = tmp_path/"whole.safetensors", tmp_path/"cut.safetensors"
    assert start(whole).wait() == 0
    victim = start(cut)
    while not cut.exists() and victim.poll() is None: time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert 1 <= load_tensors(cut)[1]["step"] < 24
    before = load_tensors(cut)[1]["seconds"]
    assert start(cut).wait() == 0
    assert load_tensors(cut)[1]["seconds"] > before
    (a, facts_a), (b, facts_b) = load_tensors(whole), load_tensors(cut)
    assert facts_a["step"] == facts_b["step"] == 24 and facts_a["log"] == facts_b["log"]
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_two_processes_share_the_batch(tmp_path):
    "Two processes take the same steps together that one takes alone, and only the first of them writes."
    tool, weights = Path(sys.executable).parent/"slowddim", []
    common = "train --data digits --widths 32 32 --patch-size 1 --bs 50 --total-steps 6 --precision fp32 --quiet"
    args = f"{common} --out {tmp_path}"
    launch = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node 2 --"
    env = dict(os.environ, CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1")
    for n in (1, 2):
        out, command = tmp_path/str(n), f"{tool} {args}/{n}" if n == 1 else f"{launch} {tool} {args}/{n}"
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        weights.append(load_pretrained(str(out))[0].state_dict())
        assert sorted(p.name for p in tmp_path.iterdir()) == [str(k) for k in range(1, n + 1)]
    assert done.stdout.count("trained 6 steps") == 1 and len(done.stdout.splitlines()) == 1 # only the first prints
    one, two = weights
    torch.manual_seed(0)
    fresh = dict(UNet(sample_size=8, widths=(32, 32), patch_size=1, num_class_embeds=10).state_dict())
    moved = max((one[k] - fresh[k]).abs().max() for k in one)
    assert max((one[k] - two[k]).abs().max() for k in one) < 0.02*moved


def test_the_source_call(tmp_path):
    "The course notebook's own keywords, on a small network and the digits."
    net = UNet(sample_size=8, widths=(32, 32), patch_size=1)
    before = [p.clone() for p in net.parameters()]
    log = train(net, lr=1e-2, n_epochs=1, bs=128, opt_func=partial(torch.optim.Adam, eps=1e-5), ddpm=cosine_schedule(),
                data="digits", progress=False)
    assert log["steps"] == 12 and log["settings"]["schedule"]["kind"] == "cosine"
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters()))


def test_the_better_of_two_averages_ends_in_the_model(tmp_path):
    torch.manual_seed(0)
    net, file = UNet(sample_size=8, widths=(32, 32), patch_size=1), tmp_path/"c.safetensors"
    log = train(net, n_epochs=2, bs=300, data="digits", ema=(0.9, 0.1), seed=0, checkpoint=file, progress=False)
    losses, stored = log["average_losses"], load_tensors(file)[0]
    assert list(losses) == ["0.9", "0.1"] and losses["0.9"] != losses["0.1"]
    better = "average0." if losses["0.9"] < losses["0.1"] else "average1."
    assert all(torch.equal(v, stored[better + k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("ema", [None, 0.9])
def test_average_ends_in_the_model(ema, tmp_path):
    torch.manual_seed(0)
    net, file = UNet(sample_size=8, widths=(32, 32), patch_size=1), tmp_path/"c.safetensors"
    train(net, n_epochs=1, bs=500, data="digits", ema=ema, seed=0, checkpoint=file, n_test=0, progress=False)
    stored, part = load_tensors(file)[0], "model." if ema is None else "average0."
    assert all(torch.equal(v, stored[part + k]) for k, v in net.state_dict().items())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    file, common = tmp_path/"c.safetensors", dict(n_epochs=1, bs=100, data="digits", seed=0, n_test=0, progress=False)
    def net(): return UNet(sample_size=8, widths=(32, 32), patch_size=1)
    train(net(), classes=["1"], checkpoint=file, **common)
    for other in (dict(classes=["2"]), dict(classes=["1"], opt_func=torch.optim.SGD),
                  dict(classes=["1"], clip_grad=0.5)):
        with pytest.raises(ValueError, match="belongs to another run"): train(net(), checkpoint=file, **common | other)


def test_classes_and_sizes_reach_the_test_set():
    digits, net = load_data("digits"), UNet(sample_size=16, widths=(32, 32))
    log = train(net, data=digits.resized(16), classes=["3"], n_epochs=1, bs=50, seed=0, n_test=20, progress=False)
    assert log["settings"]["classes"] == ["3"] and log["settings"]["n_images"] == (digits.labels == 3).sum()
    assert len(log["test_losses"]) == 1


def test_a_loaded_model_can_be_trained_on():
    "What is frozen stays frozen, unless its owner says otherwise."
    net = UNet(sample_size=8, widths=(32, 32), patch_size=1).requires_grad_(False)
    with pytest.raises(ValueError, match="makes it trainable"): train(net, data="digits", progress=False)
    net.requires_grad_(True)
    assert train(net, data="digits", n_epochs=1, bs=500, seed=0, n_test=0, progress=False)["steps"] == 3


@needs_data
def test_real_fashion_mnist_trains():
    torch.manual_seed(0)
    full = load_data("fashion_mnist")
    few = replace(full, images=full.images[:1024], labels=full.labels[:1024])
    log = train(UNet(image_size=28, widths=(32, 32, 32)), lr=2e-3, n_epochs=2, bs=64, data=few, seed=0, n_test=100,
                progress=False)
    assert log["losses"][-1][1] < 0.6*log["losses"][0][1] and len(log["test_losses"]) == 2

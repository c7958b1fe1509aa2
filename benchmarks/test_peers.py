"""What the adapters of `peers.py` promise: from the same noise all of them draw the same images, at the same cost.

Not part of `make test`. Run: python -m pytest benchmarks/test_peers.py
"""
import numpy as np
import peers
import pytest
import torch

from slowddim.core import to_pixels
from slowddim.pretrained import load_pretrained

N, STEPS = 4, 10
DRIVERS = {"k-diffusion euler": lambda m, s: peers.run_k_diffusion(m, s, N, STEPS, "sample_euler"),
           "smalldiffusion": lambda m, s: peers.run_smalldiffusion(m, s, N, STEPS),
           "denoising-diffusion-pytorch": lambda m, s: peers.run_denoising_diffusion(m, s, N, STEPS),
           "diffusers channels_last bf16": lambda m, s: peers.run_pipeline(
               peers.pipeline(m, s, channels_last=True, bf16=True), N, STEPS)}


@pytest.fixture(scope="module")
def shipped(): return load_pretrained()


def drawn(run): # float (N, 32, 32) in [0, 255], from one noise
    torch.manual_seed(1)
    x = run()
    if isinstance(x, list): return np.stack([np.array(image) for image in x]).astype(float)
    return to_pixels(x)[:, 0].numpy().astype(float)


@pytest.fixture(scope="module")
def documented(shipped): return drawn(peers.run_pipeline(peers.pipeline(*shipped), N, STEPS))


@pytest.mark.parametrize("name", DRIVERS)
def test_the_same_images_from_the_same_noise(name, shipped, documented):
    try: run = DRIVERS[name](*shipped)
    except ImportError as error: pytest.skip(str(error))
    x = drawn(run)
    if name.startswith("denoising"): x = (x - 127.5)*2 # it returns [0, 1], which `to_pixels` takes for [-1, 1]
    away, others = np.abs(x - documented).mean(), np.abs(np.roll(x, 1, 0) - documented).mean()
    assert away < others/4, f"{away:.1f} grey levels from diffusers' images, other images {others:.1f}"


@pytest.mark.parametrize("name", [n for n in DRIVERS if not n.startswith("diffusers")])
def test_as_many_evaluations_as_asked_for(name, shipped):
    model, schedule = shipped
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    try: DRIVERS[name](model, schedule)()
    except ImportError as error: pytest.skip(str(error))
    finally: hook.remove()
    assert len(calls) == STEPS


@pytest.mark.parametrize("mode", ["default", "eager", "fp32"])
def test_ours_takes_every_mode(mode, shipped):
    assert len(peers.ours(*shipped, 2, 2, mode)()) == 2

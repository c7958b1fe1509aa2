"""Train the U-Net with one part taken away at a time, on the small data set, and score each.

    python tools/unet_ablation.py --steps 2000      # rows that are there are kept

Writes results/unet_ablation.json: for each variant the error of the predicted noise on test images and the FID, both
with a 95 % interval. Every variant starts from the same seed and sees the same images, times and noise.
"""
import argparse
import time
from functools import partial
from pathlib import Path

import torch

from slowddim.core import seeded_generator
from slowddim.data import load_data
from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.noising import add_noise
from slowddim.presets import build_model
from slowddim.study import fill_table, mean_and_interval
from slowddim.train import train
from slowddim.unet import UNet

OUT = Path(__file__).parent.parent/"results"/"unet_ablation.json"
TIMES = range(25, 1000, 50) # at which the error is measured


class NoTime(UNet):
    "Every block is told the same time."
    def embed(self, t, class_labels=None): return super().embed(torch.zeros_like(t), class_labels)


class NoSkips(UNet):
    "Zeros are handed across."
    def answer(self, sample, emb):
        hooks = []
        kept = [self.stem.out_channels]
        for layer in self.down: kept.append(layer.out_channels if hasattr(layer, "out_channels")
                                            else layer.res.conv1.out_channels)
        for level in (layer for layer in self.up if hasattr(layer, "res")):
            hooks.append(level.register_forward_pre_hook(partial(silence, width=kept.pop())))
        try: return super().answer(sample, emb)
        finally:
            for hook in hooks: hook.remove()


def silence(level, inputs, width): # a hook: the last channels of the input come from across
    x, emb = inputs
    return torch.cat([x[:, :-width], torch.zeros_like(x[:, -width:])], dim=1), emb


def build(variant:str, data)->tuple: # (model, schedule)
    "Build one variant; the weights that it shares with the whole network start alike."
    model, schedule = build_model(data, prediction="v")
    if variant == "no time": model.__class__ = NoTime
    if variant == "no skips": model.__class__ = NoSkips
    if variant == "no attention":
        for layer in model.modules():
            if getattr(layer, "attn", None) is not None: layer.attn = None
    return model, schedule


VARIANTS = ("whole", "no time", "no skips", "no attention")


@torch.inference_mode()
def errors(model, schedule, test)->torch.Tensor: # (N,)
    "Measure the squared error of the predicted noise, the mean over pixels and times, for each image."
    x_0 = test.batch(slice(None), size=32)
    total = torch.zeros(len(x_0))
    for t in TIMES:
        noise = torch.randn(x_0.shape, generator=seeded_generator(0, t))
        predicted = model(add_noise(x_0, noise, t, schedule), t, class_labels=test.labels).sample
        total += (predicted - noise).square().mean((1, 2, 3))
    return total/len(TIMES)


def measure(wanted:dict)->dict: # one row
    "Train and score one variant."
    data, test = (load_data("fashion_mnist_mini", split) for split in ("train", "test"))
    model, schedule = build(wanted["variant"], data)
    tic = time.perf_counter()
    train(model, lr=2e-3, bs=wanted["bs"], total_steps=wanted["steps"], ddpm=schedule, data=data, seed=0, n_test=0,
          weighting="v")
    trained = time.perf_counter() - tic
    model.eval()
    error, interval = mean_and_interval(errors(model, schedule, test))
    samples = sample_images(model, schedule, wanted["n"], timesteps=20, labels="all", seed=0)
    return dict(training_seconds=round(trained, 1), error=error, error_interval=interval,
                parameters=sum(p.numel() for p in model.parameters()),
                fid=ImageEval.fashion_mnist().fid(samples).facts())


def main():
    "Fill the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="training steps a variant (default 2000)")
    parser.add_argument("--bs", type=int, default=64, help="images a step (default 64)")
    parser.add_argument("--n", type=int, default=512, help="samples a score (default 512)")
    args = parser.parse_args()
    settings = [dict(variant=variant, steps=args.steps, bs=args.bs, n=args.n) for variant in VARIANTS]
    command = f"python tools/unet_ablation.py --steps {args.steps} --bs {args.bs} --n {args.n}"
    for row in fill_table(OUT, settings, measure, command=command, device=torch.device("cpu")):
        low, high = row["fid"]["interval"]
        print(f"{row['variant']}: error {row['error']:.4f}, FID {row['fid']['value']:.2f} [{low:.2f}, {high:.2f}]")


if __name__ == "__main__": main()

"""Does the complexity-weighted loss help? Small networks with and without it, three seeds each, equal steps.

    python tools/ablate_complexity.py                     # resumes: every finished network is a row of the file
    python tools/ablate_complexity.py --steps 100 --n 256 # a quick look

The adaptive variant's README says that the weighting takes the reconstruction loss from 0.03-0.04 to 0.02-0.03. Writes
results/complexity_ablation.json: for each weight and seed the plain error of the noise, the reconstruction error of
encoding and decoding, and FID.
"""
import argparse
from functools import partial

import torch

from slowddim.adaptive import complexity_noise_loss
from slowddim.core import default_device
from slowddim.data import load_data
from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.latent import reconstruction_error
from slowddim.presets import build_model
from slowddim.study import fill_table, mean_and_interval
from slowddim.train import loss_on, train

LAMBDAS, SEEDS = (0., 0.1), (0, 1, 2)
SHAPE = dict(widths=(64, 96), patch_size=4, unconditional=True)


def measure(cell, judge, test, device):
    "Train one network and judge it in three ways; the plain error is the same question for both losses."
    data = load_data("fashion_mnist")
    model, schedule = build_model(data, seed=cell["seed"], **SHAPE)
    opt = partial(torch.optim.AdamW, betas=(0.9, 0.99), weight_decay=1e-3)
    log = train(model.to(device), 1e-3, bs=64, opt_func=opt, ddpm=schedule, data=data, seed=cell["seed"],
                total_steps=cell["steps"], ema=0.995, loss=partial(complexity_noise_loss, lam=cell["lam"]), n_test=0,
                progress=True)
    x_0 = test.batch(slice(0, 200), 32).to(device)
    with torch.inference_mode():
        again = mean_and_interval(reconstruction_error(model, x_0, schedule, 20, per_image=True))
    x = sample_images(model, schedule, cell["n"], 20, progress=False)
    return dict(eps_mse=loss_on(model, test, schedule, 32), reconstruction=again[0], reconstruction_interval=again[1],
                fid=judge.fid(judge.features(x)).facts(), train_seconds=log["seconds"],
                n_parameters=log["settings"]["n_parameters"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=1000, help="optimiser steps of 64 images (default 1000)")
    p.add_argument("--n", type=int, default=2048, help="images a score (default 2048)")
    p.add_argument("--device", default=None, help="cpu or cuda; the default is the best one here")
    p.add_argument("--out", default="results/complexity_ablation.json", help="JSON file to fill")
    args = p.parse_args()
    device, judge, test = default_device(args.device), ImageEval.fashion_mnist(), load_data("fashion_mnist", "test")
    cells = [dict(lam=lam, seed=seed, steps=args.steps, n=args.n, extractor=judge.model.digest) for seed in SEEDS
             for lam in LAMBDAS]
    rows = fill_table(args.out, cells, lambda cell: measure(cell, judge, test, device), device=device,
                      command=f"python tools/ablate_complexity.py --steps {args.steps} --n {args.n}")
    for r in rows:
        print(f"lambda {r['lam']}, seed {r['seed']}: eps MSE {r['eps_mse']:.5f}, reconstruction "
              f"{r['reconstruction']:.5f}, FID {r['fid']['value']:.2f}")


if __name__ == "__main__": main()

"""Train several networks for the same time each and score their pictures: which shape and recipe to train to the end.

    python tools/compare_recipes.py                       # 12 minutes each; the same command goes on where it stopped
    python tools/compare_recipes.py --only first v --minutes 2

Writes results/recipes_fashion_mnist.json, a row for each recipe.
"""
import argparse
import shlex
import shutil
import tempfile
import time
from pathlib import Path

import torch

from slowddim.cli import parse_args, run_train
from slowddim.core import default_device
from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained
from slowddim.study import fill_table
from slowddim.weights import read_json

COMMON = "--data fashion_mnist --seed 0"
RECIPES = { # what `slowddim train` is told besides COMMON
    "first": "",
    "v": "--prediction v --weighting v",
    "v min-snr": "--prediction v --weighting min_snr",
    "v simple": "--prediction v",
    "min-snr": "--weighting min_snr",
    "x_0 min-snr": "--prediction x_0 --weighting min_snr",
    "cosine": "--schedule cosine",
    "v cosine": "--prediction v --schedule cosine",
    "v cosine, v weighting": "--prediction v --schedule cosine --weighting v",
    "continuous": "--continuous",
    "sigmoid": "--schedule sigmoid",
    "batch 128": "--bs 128 --lr 2e-3",
    "long average": "--ema 0.9995",
    "narrow": "--widths 48 48 96",
    "wide": "--widths 96 96 192",
    "two blocks": "--n-blocks 2",
    "two levels": "--widths 64 128",
    "four-pixel patches": "--widths 128 192 --patch-size 4",
}


def train_once(args, folder, **changes):
    "Run `slowddim train` with these arguments and return its log."
    line = ["train", *shlex.split(COMMON), *shlex.split(args), "--out", str(folder), "--quiet"]
    for option, value in changes.items(): line += [f"--{option}", str(value)]
    print(run_train(parse_args(line)), flush=True)
    return read_json(folder/"log.json")


@torch.inference_mode()
def images_per_second(model, schedule, n=64, n_steps=5):
    "How many images the processor samples in a second, five calls each, counted as calls."
    model = model.to("cpu", memory_format=torch.channels_last)
    how = dict(progress=False, solver="ddim", batch_size=n)
    sample_images(model, schedule, n, 1, **how)
    tic = time.perf_counter()
    sample_images(model, schedule, n, n_steps, **how)
    return n*n_steps/(time.perf_counter() - tic)


def measure(cell, judge, device):
    "Train one recipe for the cell's minutes and score it."
    folder = Path(tempfile.mkdtemp())
    try:
        probe = train_once(cell["args"], folder/"probe", **{"total-steps": 60})
        steps = max(60, round(cell["minutes"]*60*probe["images_per_second"]/probe["settings"]["bs"]))
        log = train_once(cell["args"], folder/"model", **{"total-steps": steps})
        model, schedule = load_pretrained(str(folder/"model"), device=device)
        model, scores = model.to(memory_format=torch.channels_last), {}
        for solver, calls in (("dpmpp_2m", 10), ("ddim", 10), ("dpmpp_2m", 25)):
            x = sample_images(model, schedule, cell["n"], calls, solver=solver, batch_size=256, progress=False)
            scores[f"{solver} {calls}"] = judge.fid(judge.features(x)).facts()
        return dict(scores=scores, steps=log["steps"], train_images_per_second=log["images_per_second"],
                    train_seconds=log["seconds"], test_loss=log["test_losses"][-1][1],
                    n_parameters=log["settings"]["n_parameters"], precision=log["precision"],
                    calls_per_second_cpu=round(images_per_second(model, schedule), 1))
    finally: shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12., help="training time of each (default 12)")
    parser.add_argument("--n", type=int, default=2048, help="images a score (default 2048)")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="which recipes")
    parser.add_argument("--device", default=None, help="cpu or cuda; the default is the best one here")
    parser.add_argument("--out", default="results/recipes_fashion_mnist.json", help="JSON file to fill")
    args = parser.parse_args()
    device, judge = default_device(args.device), ImageEval.fashion_mnist()
    cells = [dict(recipe=name, args=f"{COMMON} {RECIPES[name]}".strip(), minutes=args.minutes, n=args.n,
                  device=device.type, extractor=judge.model.digest) for name in args.only]
    rows = fill_table(args.out, cells, lambda cell: measure(dict(cell, args=RECIPES[cell["recipe"]]), judge, device),
                      command=f"python tools/compare_recipes.py --minutes {args.minutes:g}", device=device)
    for row in sorted(rows, key=lambda r: r["scores"]["dpmpp_2m 10"]["value"]):
        found = ", ".join(f"{k}: {v['value']:.2f}" for k, v in row["scores"].items())
        print(f"{row['recipe']:>20}  {found}; {row['train_images_per_second']:.0f} images/s in training, "
              f"{row['calls_per_second_cpu']:.0f} calls/s")


if __name__ == "__main__": main()

"""Train several networks with the same arithmetic each and score their pictures: which shape and recipe to train on.

    python tools/compare_recipes.py                       # the same command goes on where it stopped
    python tools/compare_recipes.py --only first v --tflop 10

A step costs three forward passes of each of its images; a narrow network gets more steps. Counted arithmetic is the
same on a busy machine as on an idle one, a clock is not; the speeds are measured beside it. Writes
results/recipes_fashion_mnist.json, a row for each recipe.
"""
import argparse
import shlex
import shutil
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from slowddim.cli import parse_args, run_train
from slowddim.core import default_device
from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained
from slowddim.study import fill_table
from slowddim.weights import read_json

COMMON = "--data fashion_mnist --seed 0"
V = "--prediction v --schedule cosine"
LINEAR = "--prediction v --weighting v --bs 32 --lr 7e-4"
RECIPES = { # what `slowddim train` is told besides COMMON
    "first": "",
    "v cosine": V,
    "v cosine, v weighting": f"{V} --weighting v",
    "v cosine, batch 32": f"{V} --bs 32 --lr 7e-4",
    "v cosine, narrow": f"{V} --widths 32 64 128",
    "v, v weighting, batch 32": LINEAR,
    "v, v weighting, batch 32, log-normal": f"{LINEAR} --lognormal -0.5 1.4",
    "v, v weighting, batch 32, log-normal, narrow": f"{LINEAR} --lognormal -0.5 1.4 --widths 32 64 128",
}
SCORED = (("dpmpp_2m", 10), ("dpmpp_2m", 20)) # solver and calls


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


def flops_per_image(args, folder):
    "Floating-point operations of one forward pass of one image, counted on a network trained for one step."
    train_once(args, folder, **{"total-steps": 1})
    model, schedule = load_pretrained(str(folder), device="cpu")
    with FlopCounterMode(display=False) as counter: sample_images(model, schedule, 1, 1, solver="ddim", progress=False)
    return counter.get_total_flops()


def measure(cell, judge, device):
    "Train one recipe with the cell's arithmetic and score it."
    folder = Path(tempfile.mkdtemp())
    try:
        flops = flops_per_image(cell["args"], folder/"probe")
        bs = parse_args(["train", *shlex.split(cell["args"])]).bs
        steps = round(cell["tflop"]*1e12/(3*flops*bs))
        log = train_once(cell["args"], folder/"model", **{"total-steps": steps})
        model, schedule = load_pretrained(str(folder/"model"), device=device)
        model, scores = model.to(memory_format=torch.channels_last), {}
        for solver, calls in SCORED:
            x = sample_images(model, schedule, cell["n"], calls, solver=solver, batch_size=256, progress=False)
            scores[f"{solver} {calls}"] = judge.fid(judge.features(x)).facts()
        return dict(scores=scores, steps=steps, mflop_per_image=round(flops/1e6, 1), train_seconds=log["seconds"],
                    train_images_per_second=log["images_per_second"], test_loss=log["test_losses"][-1][1],
                    n_parameters=log["settings"]["n_parameters"], precision=log["precision"],
                    calls_per_second_cpu=round(images_per_second(model, schedule), 1))
    finally: shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflop", type=float, default=40., help="arithmetic of each training (default 40 TFLOP)")
    parser.add_argument("--n", type=int, default=2048, help="images a score (default 2048)")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="which recipes")
    parser.add_argument("--device", default=None, help="cpu or cuda; the default is the best one here")
    parser.add_argument("--out", default="results/recipes_fashion_mnist.json", help="JSON file to fill")
    args = parser.parse_args()
    device, judge = default_device(args.device), ImageEval.fashion_mnist()
    cells = [dict(recipe=name, args=f"{COMMON} {RECIPES[name]}".strip(), tflop=args.tflop, n=args.n,
                  device=device.type, extractor=judge.model.digest) for name in args.only]
    rows = fill_table(args.out, cells, lambda cell: measure(dict(cell, args=RECIPES[cell["recipe"]]), judge, device),
                      command=f"python tools/compare_recipes.py --tflop {args.tflop:g}", device=device)
    for row in sorted(rows, key=lambda r: r["scores"]["dpmpp_2m 10"]["value"]):
        found = ", ".join(f"{k}: {v['value']:.2f}" for k, v in row["scores"].items())
        print(f"{row['recipe']:>20}  {found}; {row['train_images_per_second']:.0f} images/s in training, "
              f"{row['calls_per_second_cpu']:.0f} calls/s")


if __name__ == "__main__": main()

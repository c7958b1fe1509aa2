"""Train several networks with the same arithmetic each and score their samples: which shape and recipe to train on.

    python tools/compare_recipes.py                       # the same command goes on where it stopped
    python tools/compare_recipes.py --only first v --tflop 10
    python tools/compare_recipes.py --what networks       # shapes, labels and optimisers
    python tools/compare_recipes.py --what networks --speed     # their speeds, alone, in one run

A step costs three forward passes of each of its images; a narrow network gets more steps. Counted arithmetic is the
same on a busy machine as on an idle one, a clock is not; so the speeds are measured by a run of their own. Writes
results/recipes_fashion_mnist.json or results/networks_fashion_mnist.json, a row for each recipe.
"""
import argparse
import shlex
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from slowddim.cli import parse_args
from slowddim.core import check_choice, default_device
from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained
from slowddim.study import fill_table
from slowddim.files import machine_facts, read_json

COMMON = "--data fashion_mnist --seed 0"
LABELS = "--prediction v --weighting v --lognormal -0.5 1.4 --bs 32 --lr 7e-4" # and labels, by default
MUON = f"{LABELS} --optimizer muon"
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
NETWORKS = {
    "first network, no labels": f"{LABELS} --unconditional",
    "labels": LABELS,
    "labels, Muon": MUON,
    "Muon, batch 64": MUON.replace("--bs 32", "--bs 64"),
    "Muon, flips": f"{MUON} --flips",
    "Muon, RMS norm": f"{MUON} --norm rms",
    "Muon, 4 transformer blocks at 4x4": f"{MUON} --n-transformer 4",
    "Muon, 64-128-192, attention at 4x4": f"{MUON} --widths 64 128 192 --attention 2",
    "Muon, 64-192, 3 transformer blocks at 8x8": f"{MUON} --widths 64 192 --attention 1 --n-transformer 3",
    "Muon, 32-64-128, two blocks a level": f"{MUON} --widths 32 64 128 --n-blocks 2",
    "Muon, patches of 4, 128-256": f"{MUON} --patch-size 4 --widths 128 256",
}
SETS = {"recipes": RECIPES, "networks": NETWORKS}
SCORED = (("dpmpp_2m", 10), ("dpmpp_2m", 20)) # solver and visited times


def train_once(args, folder, **changes):
    "Run `slowddim train` with these arguments and return its log."
    line = ["train", *shlex.split(COMMON), *shlex.split(args), "--out", str(folder), "--quiet"]
    for option, value in changes.items(): line += [f"--{option}", str(value)]
    parsed = parse_args(line)
    print(parsed.run(parsed), flush=True)
    return read_json(folder/"log.json")


@torch.inference_mode()
def evaluations_per_second(model, schedule, n=64, n_steps=5, **how):
    "How many evaluations of an image the processor makes in a second."
    how |= dict(progress=False, solver="ddim", batch_size=n)
    sample_images(model, schedule, n, 1, **how)
    tic = time.perf_counter()
    sample_images(model, schedule, n, n_steps, **how)
    return n*n_steps/(time.perf_counter() - tic)


def speeds(names, recipes, rounds=2):
    "Measure all networks in turn, several times over, and keep the medians."
    found = {name: dict(forward=[], compiled=[], training=[]) for name in names}
    with tempfile.TemporaryDirectory() as tmp:
        for _ in range(rounds):
            for name in names:
                folder = Path(tmp)/f"{list(recipes).index(name)}"
                log = train_once(recipes[name], folder, **{"total-steps": 40})
                model, schedule = load_pretrained(str(folder), device="cpu")
                start = train_once(recipes[name], Path(tmp)/"start", **{"total-steps": 10})
                bs = log["settings"]["bs"]
                found[name]["training"].append(30*bs/(log["seconds"] - start["seconds"]))
                found[name]["forward"].append(evaluations_per_second(model, schedule, compile=False))
                found[name]["compiled"].append(evaluations_per_second(model, schedule, compile=True))
    return {name: {k: round(statistics.median(v), 1) for k, v in kinds.items()} for name, kinds in found.items()}


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
        scores = {}
        for solver, calls in SCORED[:cell.get("n_scores", len(SCORED))]:
            x = sample_images(model, schedule, cell["n"], calls, solver=solver, progress=False, precision="fp32")
            scores[f"{solver} {calls}"] = judge.fid(judge.features(x)).facts()
        return dict(scores=scores, steps=steps, mflop_per_image=round(flops/1e6, 1), train_seconds=log["seconds"],
                    train_images_per_second=log["images_per_second"], test_loss=log["test_losses"][-1][1],
                    n_parameters=log["settings"]["n_parameters"], precision=log["precision"])
    finally: shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=SETS, default="recipes", help="which set")
    parser.add_argument("--tflop", type=float, default=40., help="arithmetic of each training (default 40 TFLOP)")
    parser.add_argument("--n", type=int, default=2048, help="images a score (default 2048)")
    parser.add_argument("--n-scores", type=int, default=len(SCORED), help="1: score 10 evaluations only")
    parser.add_argument("--only", nargs="+", default=None, help="which of the set")
    parser.add_argument("--speed", action="store_true", help="train nothing: measure speeds, on an idle machine")
    parser.add_argument("--device", default=None, help="cpu or cuda; the default is the best one here")
    parser.add_argument("--out", default=None, help="JSON file to fill; the default is results/SET_fashion_mnist.json")
    args = parser.parse_args()
    recipes = SETS[args.what]
    names = [check_choice("--only", name, recipes) for name in args.only or recipes]
    device, out = default_device(args.device), args.out or f"results/{args.what}_fashion_mnist.json"
    if args.speed:
        cells = [dict(recipe=name, measure="speed", machine=machine_facts(device)) for name in names]
        found = {}

        def measured(cell):
            if not found: found.update(speeds(names, recipes))
            return found[cell["recipe"]]

        rows = fill_table(out, cells, measured, device=device,
                          command=f"python tools/compare_recipes.py --what {args.what} --speed")
        for row in rows: print(f"{row['recipe']:>45}  {row['forward']}, {row['compiled']}, {row['training']}")
        return
    judge = ImageEval.fashion_mnist()
    fewer = dict(n_scores=args.n_scores) if args.what == "networks" or args.n_scores < len(SCORED) else {}
    cells = [dict(recipe=name, args=f"{COMMON} {recipes[name]}".strip(), tflop=args.tflop, n=args.n, **fewer,
                  device=device.type, extractor=judge.model.digest) for name in names]
    command = f"python tools/compare_recipes.py --what {args.what} --tflop {args.tflop:g} --n {args.n}"
    rows = fill_table(out, cells, lambda cell: measure(dict(cell, args=recipes[cell["recipe"]]), judge, device),
                      command=command, device=device)
    for row in sorted(rows, key=lambda r: r["scores"]["dpmpp_2m 10"]["value"]):
        scores = ", ".join(f"{k}: {v['value']:.2f}" for k, v in row["scores"].items())
        print(f"{row['recipe']:>45}  {scores}; {row['train_images_per_second']:.0f} images/s in training")


if __name__ == "__main__": main()

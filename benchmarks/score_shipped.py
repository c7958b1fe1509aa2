"""Score the shipped model: FID with floor and interval, KID, precision and recall, by number of network calls.

Writes results/score_fashion_mnist.json, a row at a time; rows that are there already (same model,
                                                                                       same classifier) are kept.
Run: python benchmarks/score_shipped.py [--n 10000] [--steps 10 20 50]
"""
import argparse
import sys
import time
from pathlib import Path

import torch

from slowddim.fid import ImageEval
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained
from slowddim.weights import machine_facts, read_json, write_json

ROOT = Path(__file__).parent.parent
FILE = ROOT/"results"/"score_fashion_mnist.json"


def score(model, schedule, judge, cell:dict)->dict: # one row of the table
    "Sample and score one setting."
    tic = time.perf_counter()
    x = sample_images(model, schedule, cell["n"], cell["steps"], eta=cell["eta"], seed=cell["seed"])
    sampled = time.perf_counter()
    features = judge.features(x)
    fid, kid, (precision, recall) = judge.fid(features), judge.kid(features), judge.precision_recall(features)
    return dict(**cell, fid=fid.facts(), excess=fid.excess, kid=kid.facts(), precision=float(precision),
                recall=float(recall),
                sample_seconds=round(sampled - tic, 1), score_seconds=round(time.perf_counter() - sampled, 1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--n", type=int, default=10_000, help="images per row")
    p.add_argument("--steps", type=int, nargs="+", default=[10, 20, 50], help="network calls per image")
    p.add_argument("--eta", type=float, default=0., help="0 is DDIM, 1 is DDPM")
    p.add_argument("--seed", type=int, default=0)
    args = p.parse_args()
    (model, schedule), judge = load_pretrained("fashion_mnist"), ImageEval.fashion_mnist()
    who = dict(model="fashion_mnist", digest=model.card["digest"], extractor=judge.model.digest)
    rows = read_json(FILE)["rows"] if FILE.is_file() else []
    for steps in args.steps:
        cell = dict(**who, n=args.n, steps=steps, eta=args.eta, solver="ddim", spacing="trailing", seed=args.seed)
        if any(cell.items() <= row.items() for row in rows): continue
        rows.append(score(model, schedule, judge, cell))
        print(f"S={steps}: FID {rows[-1]['fid']['value']:.3f}, excess {rows[-1]['excess']:.3f}, recall "
              f"{rows[-1]['recall']:.3f}")
        write_json(FILE, dict(command="python benchmarks/score_shipped.py", machine=machine_facts(torch.device("cpu")),
                              rows=rows))


if __name__ == "__main__": sys.exit(main())

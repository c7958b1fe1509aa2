"""What an export costs: bytes, error and FID of the ONNX file, for each precision, against the network in PyTorch.

Writes results/export_NAME.json. Run: python benchmarks/export.py --n 10000; rows that are there for this n are kept.
"""
import argparse
import tempfile
import time
from pathlib import Path

import torch

from slowddim.export import EXPORT_PRECISIONS, export_model, load_export
from slowddim.fid import ImageEval
from slowddim.files import machine_facts, read_json, write_json
from slowddim.generate import sample_images
from slowddim.pretrained import load_pretrained

ROOT = Path(__file__).parent.parent


def measured(model, schedule, n, steps): # the scores of n samples of seed 0, and the time of one
    tic = time.perf_counter()
    images = sample_images(model, schedule, n, timesteps=steps, seed=0, precision="fp32")
    seconds = time.perf_counter() - tic
    scorer = ImageEval.fashion_mnist()
    features = scorer.features(images, progress=False)
    precision, recall = scorer.precision_recall(features)
    return dict(fid=scorer.fid(features).facts(), precision=precision.facts(), recall=recall.facts(),
                sample_seconds=round(seconds/n, 4))


def main():
    "Export, sample, score and write, a row at a time."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="fashion_mnist", help="a model's name or folder")
    parser.add_argument("--n", type=int, default=10_000, help="samples")
    parser.add_argument("--steps", type=int, default=10, help="network evaluations of a sample")
    known = ["torch", *EXPORT_PRECISIONS] # torch: the network itself
    parser.add_argument("--precision", nargs="+", default=known, choices=known, help="rows to measure")
    args = parser.parse_args()
    out = ROOT/"results"/f"export_{Path(args.model).name}.json"
    result = read_json(out) if out.is_file() else dict(commands=[], rows=[])
    model, schedule = load_pretrained(args.model)
    for precision in args.precision:
        told = dict(way=precision, n=args.n, S=args.steps)
        if any(told.items() <= row.items() for row in result["rows"]): continue
        with tempfile.TemporaryDirectory() as folder:
            network = model
            if precision != "torch":
                facts = export_model(args.model, folder, precision=precision)
                told |= {k: facts[k] for k in ("digest", "opset", "bytes", "max_error")}
                network, _ = load_export(folder)
            result["rows"].append(told | measured(network, schedule, args.n, args.steps))
        command = f"python benchmarks/export.py --model {args.model} --n {args.n} --steps {args.steps}"
        result["commands"] = list(dict.fromkeys([*result["commands"], command]))
        write_json(out, result | dict(machine=machine_facts(torch.device("cpu"))))
        print(result["rows"][-1], flush=True)


if __name__ == "__main__": main()

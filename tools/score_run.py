"""Score the folders that the legs of a long training left: FID against images seen.

    python tools/score_run.py fashion_mnist FOLDER ...      # in order; rows that are there are kept

Each folder is asked for n samples, all labels evenly where it knows labels, and again without labels. Writes
results/run_fashion_mnist.json. Images seen are counted over all legs (`images_seen` in the card).
"""
import argparse
from functools import partial

from slowddim.guidance import label_info
from slowddim.study import fill_table
from slowddim.tables import STUDIES


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="shipped names or folders")
    parser.add_argument("--n", type=int, default=2048, help="samples a score (default 2048)")
    parser.add_argument("--steps", type=int, default=10, help="network evaluations a sample (default 10)")
    parser.add_argument("--out", default="results/run_fashion_mnist.json", help="JSON file to fill")
    args = parser.parse_args()
    study = STUDIES["solvers"]
    for name in args.models:
        setup = study.open(name, device="cpu", progress=True)
        if "images_seen" not in setup.model.card: raise ValueError(f"the card of {name} does not tell images_seen")
        seen = setup.model.card["images_seen"]
        labelled = label_info(setup.model) is not None
        kinds = [dict(labels=None), dict(labels="none")] if labelled else [{}] # None: all labels
        base, = study.plan(setup, steps=(args.steps,), solvers=("dpmpp_2m",), n=args.n)
        settings = [dict(base, images_seen=seen, **kind) for kind in kinds]
        command = f"python tools/score_run.py {' '.join(args.models)} --n {args.n} --steps {args.steps}"
        rows = fill_table(args.out, settings, partial(study.measure, setup), command=command, device=setup.device)
        for row in rows:
            low, high = row["fid"]["interval"]
            told = f"{name}{' without labels'*(row.get('labels') == 'none')}, {seen:,} images"
            print(f"{told}: FID {row['fid']['value']:.3f} "
                  f"[{low:.3f}, {high:.3f}], recall {row['recall']:.3f}")


if __name__ == "__main__": main()

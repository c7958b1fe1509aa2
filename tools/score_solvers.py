"""Tell the fitted solvers that ship how they score, beside 2M, from the table of few evaluations.

    slowddim table learned --n 2048 --steps 5 8 --methods dpmpp_2m fitted
    python tools/score_solvers.py

`slowddim sample` uses a fitted solver without being asked only if its FID is measured to be lower than
that of 2M (`FittedSolver.lowers_fid`). The measurement is a row of results/learned_fashion_mnist.json;
this script copies it into the file of the solver whose name the row has. A solver that was fitted again
since has another name: it loses its FID until the table is made again.
"""
import argparse
from pathlib import Path

from slowddim.files import read_json, weights_dir, write_json
from slowddim.learned import load_solver

ROOT = Path(__file__).parent.parent
SAME = ("digest", "extractor", "n", "seed", "arithmetic", "evaluations") # of two rows that may be compared


def facts_of(row:dict)->list[float]:
    "Take the value and the interval of a row's FID."
    return [row["fid"]["value"], *row["fid"]["interval"]]


def measured(solver, rows:list[dict])->dict|None:
    "Find the largest comparison of a solver with 2M; None: there is none."
    found = None
    for row in rows:
        if row.get("solver") != solver.name or row["digest"] != solver.facts["network"]: continue
        for other in rows:
            if other["method"] != "dpmpp_2m" or any(row.get(k) != other.get(k) for k in SAME): continue
            if found is not None and found["n"] >= row["n"]: continue
            found = dict(n=row["n"], seed=row["seed"], arithmetic=row.get("arithmetic", "fp32"),
                         extractor=row["extractor"], fitted=facts_of(row), dpmpp_2m=facts_of(other))
    return found


def main():
    p = argparse.ArgumentParser(description="Copy measured FIDs into the files of the solvers that ship.")
    p.add_argument("--table", type=Path, default=ROOT/"results"/"learned_fashion_mnist.json")
    p.add_argument("--folder", type=Path, default=weights_dir()/"solvers")
    args = p.parse_args()
    rows = read_json(args.table)["rows"]
    for file in sorted(args.folder.glob("*.json")):
        solver, data = load_solver(file), read_json(file)
        data.pop("fid", None)
        fid = measured(solver, rows)
        if fid is not None: data["fid"] = fid
        write_json(file, data)
        print(f"{file.name}: {fid}, by itself: {load_solver(file).lowers_fid}")


if __name__ == "__main__": main()

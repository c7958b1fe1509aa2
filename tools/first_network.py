"""Train the network of lesson 2 for longer, with the lesson's own cells, and score it in the same way.

    python tools/first_network.py 1000 18000      # training steps; rows that are there are kept

Writes results/first_network.json. A row is kept as long as the cells say what they said when it was made.
"""
import argparse
import hashlib
import re
import time
from pathlib import Path

import torch
from nbformat import read

from slowddim.files import machine_facts, read_json, write_json

ROOT = Path(__file__).parent.parent
LESSON = ROOT/"nbs"/"lessons"/"02_train_your_first.ipynb"
OUT = ROOT/"results"/"first_network.json"
TRAINING = r"fit\(net, \d+, snapshots=\([^)]*\)\)" # in the cell that trains
CURVES = ("smooth", "shots.values()") # words of the cells that draw the lesson's own run


def cells()->list[str]: # sources, in order
    "Take the lesson's code from its imports to its score."
    nb = read(LESSON, as_version=4)
    end = next(i for i, c in enumerate(nb.cells) if c.source.startswith("## The same in the library"))
    code = [c.source for c in nb.cells[:end] if c.cell_type == "code" and not c.source.startswith("#| hide")]
    code = [source for source in code if not any(word in source for word in CURVES)]
    if sum(len(re.findall(TRAINING, source)) for source in code) != 1:
        raise ValueError(f"{LESSON} must have one cell that trains")
    return code


def run(code:list[str], steps:int)->dict: # one row
    "Run the cells with another number of training steps."
    space, tic = {}, time.perf_counter()
    for source in code:
        if source.lstrip().startswith("test_eq(") or "ImageEval.fashion_mnist()" in source: # the lesson's demands
            source = re.sub(r"^test_\w+\(.*$", "", source, flags=re.M)
        exec(re.sub(TRAINING, f"fit(net, {steps})", source), space) # the repository's own lesson
    return dict(steps=steps, seconds=round(space["seconds"], 1), n=len(space["samples"]), fid=space["fid"].facts(),
                as_asked=space["as_asked"], rarest_class=space["shares"].min().item(),
                total_seconds=round(time.perf_counter() - tic, 1))


def main():
    "Fill the file."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, nargs="+", help="training steps, one run each")
    args = parser.parse_args()
    for steps in args.steps:
        if steps < 2: parser.error(f"steps must be at least 2, got {steps}")
    torch.set_num_threads(1)
    code = cells()
    digest = hashlib.sha256("\n\n".join(code).encode()).hexdigest()[:12]
    stored = read_json(OUT) if OUT.is_file() else {}
    rows = stored["rows"] if stored.get("cells") == digest else []
    for steps in args.steps:
        if steps in [row["steps"] for row in rows]: continue
        rows = sorted([*rows, run(code, steps)], key=lambda row: row["steps"])
        command = f"python tools/first_network.py {' '.join(str(row['steps']) for row in rows)}"
        write_json(OUT, dict(command=command, cells=digest, machine=machine_facts(torch.device("cpu")), rows=rows))
        print(next(row for row in rows if row["steps"] == steps), flush=True)


if __name__ == "__main__": main()

"""Score 10,000 pictures through the command line and say what it costs; the pictures are the real test set's.

Writes results/score_10k.json. Run: python benchmarks/score_10k.py
"""
import tempfile
from pathlib import Path

import numpy as np
import torch
from sample_10k import COMMAND, ROOT, run_with_peak

from slowddim.data import load_data
from slowddim.files import machine_facts, read_json, write_json


def main():
    "Measure and write."
    with tempfile.TemporaryDirectory() as tmp:
        pictures, scores = Path(tmp)/"real.npz", Path(tmp)/"scores.json"
        np.savez(pictures, arr_0=load_data("fashion_mnist", "test").images.movedim(1, -1).numpy())
        seconds, peak = run_with_peak([COMMAND, "fid", pictures, "--quiet", "--out", scores])
        found = read_json(scores)["scores"]
    result = dict(command="slowddim fid real.npz", n=found[0]["n"], seconds=round(seconds, 1),
                  peak_memory_mb=round(peak), scores={s["kind"]: s["value"] for s in found},
                  machine=machine_facts(torch.device("cpu")))
    write_json(ROOT/"results"/"score_10k.json", result)
    print(result)


if __name__ == "__main__": main()

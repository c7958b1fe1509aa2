"""Sample 10,000 images through the command line; check them, their cost and their independence of the batch size.

Writes results/sample_10k.json. Run: python benchmarks/sample_10k.py [--n 10000]
"""
import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from slowddim.pretrained import load_pretrained
from slowddim.files import machine_facts, write_json

ROOT = Path(__file__).parent.parent
COMMAND = Path(sys.executable).parent/"slowddim"


def run_with_peak(args:list)->tuple[float, float]: # seconds, peak resident memory in MB
    "Run a command and watch its memory."
    tic, child, peak = time.perf_counter(), psutil.Popen([str(a) for a in args]), [0]

    def watch():
        while child.poll() is None:
            try: peak[0] = max(peak[0], child.memory_info().rss)
            except psutil.NoSuchProcess: break
            time.sleep(0.1)
    watcher = threading.Thread(target=watch)
    watcher.start()
    if child.wait(): raise subprocess.CalledProcessError(child.returncode, args)
    watcher.join()
    return time.perf_counter() - tic, peak[0]/1e6


def batch_difference(folder:Path)->dict: # how far --batch-size 7 is from --batch-size 64
    "Compare the first 100 images made in batches of 7 and of 64."
    arrays = []
    for size in (7, 64):
        out = folder/f"{size}.npz"
        run_with_peak([COMMAND, "sample", "--n", 100, "--batch-size", size, "--quiet", "--out", out])
        arrays.append(np.load(out)["arr_0"].astype(int))
    apart = np.abs(arrays[0] - arrays[1])
    return dict(largest_difference=int(apart.max()), share_of_pixels=float((apart > 0).mean()))


def main():
    "Measure and write."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000)
    n = parser.parse_args().n
    model, _ = load_pretrained("fashion_mnist")
    with tempfile.TemporaryDirectory() as tmp:
        out = Path(tmp)/"x.npz"
        args = ["sample", "--n", n, "--steps", 20, "--seed", 0, "--out", out]
        seconds, peak = run_with_peak([COMMAND, *args])
        images = np.load(out)["arr_0"]
        result = dict(command=f"slowddim sample --n {n} --steps 20 --seed 0 --out x.npz", shape=list(images.shape),
                      dtype=str(images.dtype), mean_brightness=round(float(images.mean())/255, 4),
                      seconds=round(seconds, 1), peak_memory_mb=round(peak), images_per_second=round(n/seconds, 1),
                      batch_7_against_64=batch_difference(Path(tmp)), model=model.card["digest"],
                      machine=machine_facts(torch.device("cpu")))
    write_json(ROOT/"results"/"sample_10k.json", result)
    print(result)


if __name__ == "__main__": main()

"Build the small data set that ships with the package: `tools/mini.py`, from the full one in $SLOWDDIM_DATA."
import argparse
from pathlib import Path

import numpy as np
import torch

from slowddim.core import seeded_generator
from slowddim.data import load_data
from slowddim.files import atomic_path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT/"slowddim"/"weights_data"/"fashion_mnist_mini"
SEED = 0
PER_CLASS = dict(train=500, test=50)


def chosen_rows(labels:torch.Tensor, per_class:int, seed:int)->torch.Tensor: # int64, ascending
    "Draw as many rows of each class."
    generator, picks = seeded_generator(seed), []
    for label in range(labels.max().item() + 1):
        rows = (labels == label).nonzero().flatten()
        picks.append(rows[torch.randperm(len(rows), generator=generator)[:per_class]])
    return torch.cat(picks).sort().values


def arrays(seed:int=SEED)->dict: # name -> array
    "Choose the images of both splits, and note which rows of the original they are."
    found = dict(seed=np.int64(seed))
    for split, per_class in PER_CLASS.items():
        data = load_data("fashion_mnist", split)
        rows = chosen_rows(data.labels, per_class, seed)
        found |= {f"{split}_images": data.images[rows, 0].numpy(), f"{split}_rows": rows.numpy().astype(np.int32),
                  f"{split}_labels": data.labels[rows].numpy().astype(np.uint8)}
    return found | dict(classes=np.array(data.classes))


def main():
    "Write the file."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER/"images.npz")
    out = parser.parse_args().out
    with atomic_path(out) as part, open(part, "wb") as f: np.savez_compressed(f, **arrays())
    print(f"{out}: {out.stat().st_size/1e6:.2f} MB")


if __name__ == "__main__": main()

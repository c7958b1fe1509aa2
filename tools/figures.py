"Make the pictures of the front page: the sample grid, the film of garments forming, and the loss curves."
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
import torch

from slowddim.animate import animate
from slowddim.core import image_generators, randn
from slowddim.ode import ode_trajectory
from slowddim.pretrained import load_pretrained
from slowddim.viz import plot_losses
from slowddim.files import read_json

ROOT = Path(__file__).parent.parent


@torch.inference_mode()
def form(file:Path, n:int=8):
    "Film the first garments of the grid on their way from noise."
    model, schedule = load_pretrained("fashion_mnist")
    x_T = randn((n, 1, 32, 32), generator=image_generators(seed=0, start=0, n=n))
    states = ode_trajectory(model, x_T, schedule, 20, clip=1.)
    animate([x_T, *(s.x_prev for s in states)], n_images=n, n_cols=n, size=28, ink=False).save(file)
    with Image.open(file) as film: # for readers who want nothing to move
        film.seek(film.n_frames - 1)
        film.convert("RGB").save(file.with_name(f"{file.stem}_still.png"))


def main():
    "Sample garments and plot the training logs in results/."
    images = ROOT/"nbs"/"images"
    images.mkdir(exist_ok=True)
    subprocess.run([Path(sys.executable).parent/"slowddim", "sample", "--n", "64", "--steps", "20", "--seed", "0",
                    "--out", images/"samples.png"], check=True)
    form(images/"forming.gif")
    fig, axes = plt.subplots(1, 2, figsize=(7.6, 2.8), sharey=True, layout="constrained")
    goes = {"first go: noise": "fashion_mnist_first", "second go: velocity": "fashion_mnist"}
    for ax, (title, name) in zip(axes, goes.items()):
        plot_losses(read_json(ROOT/"results"/f"train_{name}.json"), ax)
        ax.set(title=title, ylabel=ax.get_ylabel() if ax is axes[0] else "")
    fig.savefig(images/"loss.png", dpi=100)


if __name__ == "__main__": main()

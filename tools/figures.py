"Make the pictures of the front page: the sample grid, the film of garments forming, and the loss curve."
import subprocess
import sys
from pathlib import Path

from slowddim.viz import plot_losses
from slowddim.weights import read_json

ROOT = Path(__file__).parent.parent


def main():
    "Sample garments and plot the training log in results/."
    images = ROOT/"nbs"/"images"
    images.mkdir(exist_ok=True)
    for n, name in (("64", "samples.png"), ("8", "forming.gif")):
        subprocess.run([Path(sys.executable).parent/"slowddim", "sample", "--n", n, "--steps", "20", "--seed", "0",
                        "--out", images/name], check=True)
    plot_losses(read_json(ROOT/"results"/"train_fashion_mnist.json")).savefig(images/"loss.png", dpi=100)


if __name__ == "__main__": main()

"Make the pictures of the front page: the sample grid and the loss curve."
import subprocess
import sys
from pathlib import Path

from slowddim.viz import plot_losses
from slowddim.weights import read_json

ROOT = Path(__file__).parent.parent


def main():
    "Sample 64 garments and plot the training log in results/."
    images = ROOT/"nbs"/"images"
    images.mkdir(exist_ok=True)
    subprocess.run([Path(sys.executable).parent/"slowddim", "sample", "--n", "64", "--steps", "20", "--seed", "0",
                    "--out", images/"samples.png"], check=True)
    plot_losses(read_json(ROOT/"results"/"train_fashion_mnist.json")).savefig(images/"loss.png", dpi=100)


if __name__ == "__main__": main()

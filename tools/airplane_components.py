"""Write the standard deviations of the main components of CIFAR-10's airplanes, with which lesson 8 computes.

    python tools/airplane_components.py
"""
import argparse

from slowddim.data import load_data
from slowddim.judges import PixelEval
from slowddim.files import write_json


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="results/components_cifar10_airplane.json", help="JSON file to write")
    args = parser.parse_args()
    planes = load_data("cifar10", classes=["airplane"])
    judge = PixelEval(planes, load_data("cifar10", "test", classes=["airplane"]))
    deviations = [round(v, 5) for v in judge.cov.diagonal().sqrt().tolist()]
    write_json(args.out, dict(command="python tools/airplane_components.py", data="cifar10", classes=["airplane"],
                              n_images=len(planes.images), extractor=judge.model.digest, deviations=deviations))
    print(f"{len(deviations)} components, from {deviations[0]:.2f} to {deviations[-1]:.2f} -> {args.out}")


if __name__ == "__main__": main()

"""Train the Fashion-MNIST classifier that every score stands on, from a seed, and check it on the 10,000 test images.

Needs the data set. Writes slowddim/weights_data/fashion_mnist_classifier and results/classifier.json; resumes if it was
cut off.
Run: python tools/train_classifier.py            train, then check
     python tools/train_classifier.py --check    only count right answers and score real pictures again
"""
import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from slowddim.classifier import Classifier, accuracy, load_classifier, save_classifier, train_classifier
from slowddim.data import load_data
from slowddim.fid import REFERENCE_FILE, ImageEval, make_reference, reference_key
from slowddim.weights import load_tensors, machine_facts, save_tensors, write_json

ROOT = Path(__file__).parent.parent
FOLDER = ROOT/"slowddim"/"weights_data"/"fashion_mnist_classifier"
COMMAND = "python tools/train_classifier.py"


def check(test)->dict: # what the shipped file answers, class by class
    "Count right answers of the stored, half-precision weights."
    model = load_classifier(FOLDER)
    per_class = {}
    for k, name in enumerate(test.classes):
        mine = replace(test, images=test.images[test.labels == k], labels=test.labels[test.labels == k])
        per_class[name] = round(accuracy(model, mine), 4)
    return dict(accuracy=accuracy(model, test), n_test=len(test), digest=model.digest, per_class=per_class)


def write_reference(test)->None: # unless the one that is there fits
    "Ship what scores compare with: statistics of the training images, features of the test images."
    model, train, file = load_classifier(FOLDER), load_data("fashion_mnist"), FOLDER/REFERENCE_FILE
    if not file.is_file() or load_tensors(file)[1]["key"] != reference_key(train, model.digest):
        save_tensors(file, *make_reference(model, train, test, progress=True))


def floors()->dict: # what real pictures score against real pictures
    "Score random test images at several n."
    judge = ImageEval.fashion_mnist()
    return {n: round(judge.floor(n), 5) for n in (256, 512, 1000, 2048, 5000, 10_000)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--check", action="store_true", help="train nothing, count again")
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--bs", type=int, default=128)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--checkpoint", default="classifier_run.safetensors",
                   help="file to write after each epoch and resume from")
    args = p.parse_args()
    test = load_data("fashion_mnist", "test")
    if not args.check:
        torch.manual_seed(args.seed)
        model, tic = Classifier(), time.perf_counter()
        log = train_classifier(model, load_data("fashion_mnist"), test, n_epochs=args.epochs, bs=args.bs, lr=args.lr,
                               seed=args.seed, checkpoint=args.checkpoint)
        card = dict(name="fashion_mnist_classifier", data="fashion_mnist", command=COMMAND,
                    seconds=round(time.perf_counter() - tic),
                    **log, classes=list(test.classes))
        save_classifier(model, FOLDER, card)
        Path(args.checkpoint).unlink(missing_ok=True)
    facts = check(test)
    write_reference(test)
    facts |= dict(command=COMMAND, check=f"{COMMAND} --check", floor=floors())
    facts |= dict(machine=machine_facts(torch.device("cpu")))
    write_json(ROOT/"results"/"classifier.json", facts)
    print(f"{facts['accuracy']:.2%} of {facts['n_test']:,} test images, digest {facts['digest']}")


if __name__ == "__main__": sys.exit(main())

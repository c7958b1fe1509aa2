"""Train a classifier from a seed and check it on the 10,000 test images.

The Fashion-MNIST one, on whose features every score stands, goes to slowddim/weights_data and results/classifier.json;
the two small readers of MNIST digits go to models and results/digit_classifier*.json: one has also learned what is no
digit, the plain one has not. Needs the data set; resumes if it was cut off.
Run: python tools/train_classifier.py                 train, then check
     python tools/train_classifier.py --check         only count right answers and score real pictures again
     python tools/train_classifier.py --data mnist    the same for digits; mnist_plain: for the plain reader
     python tools/train_classifier.py --data fashion_mnist_second    the second one, of another architecture and seed,
                                                      which reads labelled samples and scores nothing else
"""
import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from slowddim.classifier import Classifier, PlainClassifier, accuracy, load_classifier, save_classifier
from slowddim.classifier import train_classifier
from slowddim.data import load_data
from slowddim.fid import REFERENCE_FILE, ImageEval, make_reference, reference_key
from slowddim.judges import DigitEval
from slowddim.files import load_tensors, machine_facts, save_tensors, write_json

ROOT = Path(__file__).parent.parent
FOLDER = ROOT/"slowddim"/"weights_data"/"fashion_mnist_classifier"
READER = ROOT/"models"/"mnist_classifier"
COMMAND = "python tools/train_classifier.py"
DIGITS = dict(data="mnist", make=partial(Classifier, (16, 32, 64, 64)), epochs=2)
DUTY = "reads labelled samples as classes; scores nothing else, and nothing was selected by it"
KINDS = { # by the name that --data takes
    "fashion_mnist": dict(data="fashion_mnist", folder=FOLDER, out="classifier", epochs=12, command=COMMAND, how={},
                          make=partial(Classifier, (32, 64, 128, 128))),
    "fashion_mnist_second": dict(data="fashion_mnist", folder=ROOT/"models"/"fashion_mnist_classifier_second",
                                 out="classifier_second", make=PlainClassifier, epochs=9, seed=1, lr=3e-3,
                                 command=f"{COMMAND} --data fashion_mnist_second", how={}, facts=dict(duty=DUTY),
                                 then=dict(n_epochs=5, lr=2e-3, shift=0)), # a second run, on images as they are
    "mnist": dict(**DIGITS, folder=READER, out="digit_classifier", command=f"{COMMAND} --data mnist",
                  how=dict(flips=False, label_smoothing=0., strangers=True)),
    "mnist_plain": dict(**DIGITS, folder=Path(f"{READER}_plain"), out="digit_classifier_plain",
                        command=f"{COMMAND} --data mnist_plain", how=dict(flips=False, label_smoothing=0.)),
}


def check(test, folder)->dict: # what the shipped file answers, class by class
    "Count right answers of the stored, half-precision weights."
    model = load_classifier(folder)
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
    p.add_argument("--data", choices=KINDS, default="fashion_mnist")
    p.add_argument("--epochs", type=int, default=None, help="default 12, for the second 9 and 5, for digits 2")
    p.add_argument("--bs", type=int, default=128)
    p.add_argument("--lr", type=float, default=None, help="default 4e-3, for the second 3e-3 and 2e-3")
    p.add_argument("--seed", type=int, default=None, help="default 0, for the second 1")
    p.add_argument("--checkpoint", default="classifier_run.safetensors",
                   help="file to write after each epoch and resume from")
    args = p.parse_args()
    kind = KINDS[args.data]
    test = load_data(kind["data"], "test")
    if not args.check:
        seed = kind.get("seed", 0) if args.seed is None else args.seed
        lr = kind.get("lr", 4e-3) if args.lr is None else args.lr
        torch.manual_seed(seed)
        model, train = kind["make"](), load_data(kind["data"])
        how = dict(bs=args.bs, seed=seed, **kind["how"])
        files = [Path(args.checkpoint), Path(args.checkpoint).with_suffix(".then.safetensors")]
        log = train_classifier(model, train, test, n_epochs=args.epochs or kind["epochs"], lr=lr, checkpoint=files[0],
                               **how)
        if "then" in kind: # the card tells of the last run, and under `first` of the one before
            log = dict(train_classifier(model, train, test, checkpoint=files[1], **how | kind["then"]), first=log)
        card = dict(name=kind["folder"].name, data=kind["data"], command=kind["command"], **kind.get("facts", {}),
                    **log, classes=list(test.classes))
        save_classifier(model, kind["folder"], card)
        for file in files: file.unlink(missing_ok=True)
    facts = check(test, kind["folder"]) | dict(command=kind["command"], check=f"{kind['command']} --check")
    if args.data == "fashion_mnist":
        write_reference(test)
        facts |= dict(floor=floors())
    elif kind["data"] == "fashion_mnist": facts |= kind["facts"]
    else: facts |= dict(reads=DigitEval.mnist(kind["folder"]).read(test.images))
    facts |= dict(machine=machine_facts(torch.device("cpu")))
    write_json(ROOT/"results"/f"{kind['out']}.json", facts)
    print(f"{facts['accuracy']:.2%} of {facts['n_test']:,} test images, digest {facts['digest']}")


if __name__ == "__main__": sys.exit(main())

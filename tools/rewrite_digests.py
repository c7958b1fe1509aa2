"""Name every model by the digest of its tensors, in its card and wherever it is quoted.

    python tools/rewrite_digests.py

Cards used to hold the first twelve digits of the SHA-256 of the weights' file; now they hold
`tensors_digest` of its tensors. Both follow from the file, so the script finds every old id and its
new one, and replaces it in cards, their READMEs, results, lists and the notebooks' texts and outputs,
and in the facts of a classifier's reference (whose key needs the data set: set SLOWDDIM_DATA). What is
new already stays: a second run changes nothing.

Two ids belong to weights that are in git's history only (RETIRED). Two have no weights anywhere and
stay as they are, digests of a file: da8f1deab0ea, the first go of the digits
(results/train_mnist_first.json), and 6573164c7b18, forty steps on CIFAR-10 at 64 pixels
(results/train_cifar10_64_short.json).
"""
import argparse
import hashlib
import re
from pathlib import Path

import torch

from slowddim.classifier import CLASSIFIER_FILE
from slowddim.data import load_data
from slowddim.fid import REFERENCE_FILE, reference_key
from slowddim.files import CARD_FILE, MODEL_FILE, atomic_path, load_tensors, save_tensors
from slowddim.files import tensors_digest

ROOT = Path(__file__).parent.parent
FOLDERS = ("slowddim/weights_data/*", "models/*")
TEXTS = (*(f"{folder}/{file}" for folder in FOLDERS for file in (CARD_FILE, "README.md")), "*.md",
         "results/**/*.json", "nbs/**/*.ipynb", "nbs/**/*.json")
RETIRED = {"5dec2cfb391b": "79a57583d32d", # git blob 918d219a, the first weights of fashion_mnist
           "1ca9aa82d267": "f0818f7ce9a0"} # git blob 5d82b561, the digits after their second go


def in_folders(root:Path, name:str)->list[Path]:
    "Find the files of this name in model folders."
    return sorted(file for folder in FOLDERS for file in root.glob(f"{folder}/{name}"))


def both_digests(file:Path)->tuple[str, str]: # of a weights file
    "Digest a file's bytes, as cards did, and its tensors, as they do."
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12], tensors_digest(load_tensors(file)[0])


def find_digests(root:Path)->dict[str, str]: # old id -> new id
    "Compute the ids of every model folder."
    files = [file for name in (MODEL_FILE, CLASSIFIER_FILE) for file in in_folders(root, name)]
    return RETIRED | dict(both_digests(file) for file in files)


def replace_digests(text:str, digests:dict[str, str])->str:
    "Replace whole ids; longer hexadecimal numbers that hold one stay."
    return re.sub(rf"(?<![0-9a-f])({'|'.join(digests)})(?![0-9a-f])", lambda found: digests[found[1]], text)


def changed_texts(root:Path, digests:dict[str, str])->dict[Path, str]: # file -> its new text
    "Find the files that quote an old id."
    files = sorted({file for pattern in TEXTS for file in root.glob(pattern)})
    texts = {file: file.read_text("utf-8") for file in files}
    changed = {file: replace_digests(text, digests) for file, text in texts.items()}
    return {file: text for file, text in changed.items() if text != texts[file]}


def changed_references(root:Path, digests:dict[str, str])->dict[Path, tuple]: # file -> its tensors and new facts
    "Find references that name their classifier by an old id; a `ValueError` if their data is not here."
    changed = {}
    for file in in_folders(root, REFERENCE_FILE):
        tensors, facts = load_tensors(file)
        old = facts["extractor"]
        if old not in digests: continue
        real = load_data(facts["data"], facts["split"])
        if reference_key(real, old) != facts["key"]:
            raise ValueError(f"{file} was made with other images than those of {real.name}")
        new = digests[old]
        changed[file] = tensors, facts | dict(extractor=new, key=reference_key(real, new))
    return changed


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    digests = find_digests(ROOT)
    for old, new in digests.items(): print(f"{old} -> {new}")
    references, texts = changed_references(ROOT, digests), changed_texts(ROOT, digests)
    for file, (tensors, facts) in references.items():
        save_tensors(file, tensors, facts)
        again, _ = load_tensors(file)
        if not all(torch.equal(v, again[name]) for name, v in tensors.items()):
            raise RuntimeError(f"{file} has changed")
    for file, text in texts.items():
        with atomic_path(file) as p: p.write_text(text, encoding="utf-8", newline="\n")
    for file in (*references, *texts): print(f"rewritten: {file.relative_to(ROOT)}")
    print(f"{len(references) + len(texts)} files changed")


if __name__ == "__main__": main()

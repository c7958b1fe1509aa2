"""Build the wheel, look at what is in it, and use it in a fresh environment outside the repository.

The environment gets the wheel and links to the installed packages that the wheel says it needs, with what those need:
a package that the library imports and does not declare is missing there. With `--fresh` pip installs them instead.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from email import message_from_bytes
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
MAX_MB = 20
WINDOWS = os.name == "nt"


def run(*command, cwd:Path, env:dict|None=None)->str: # what it printed
    "Run a command; where it fails, show what it said and stop."
    words = [str(c) for c in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode: sys.exit(f"{' '.join(words)}\n{said}\nfailed: {done.returncode}")
    return said


def build(folder:Path, isolated:bool)->Path: # the wheel, made from the source archive
    "Build the source archive and from it the wheel; warnings of setuptools are errors."
    options = [] if isolated else ["--no-isolation"]
    said = run(sys.executable, "-m", "build", *options, "--outdir", folder, ROOT, cwd=folder)
    warnings = re.findall(r".*(?:SetuptoolsWarning|Deprecat|is absent from the `packages`|!!).*", said)
    if warnings: sys.exit("the build warns:\n" + "\n".join(warnings))
    return next(folder.glob("*.whl"))


def expected()->set[str]: # names in the wheel, without its metadata
    "List what belongs into the wheel: modules, the type marker, and the weights."
    package = ROOT/"slowddim"
    files = [*package.glob("*.py"), package/"py.typed", *(p for p in package.glob("weights_data/*/*") if p.is_file())]
    return {p.relative_to(ROOT).as_posix() for p in files}


def check_contents(wheel:Path):
    "Compare the wheel's names, size and metadata with what they must be."
    names = set(ZipFile(wheel).namelist())
    info = {n for n in names if n.split("/")[0].endswith(".dist-info")}
    wanted = expected()
    wrong = sorted((names - info) ^ wanted)
    if wrong: sys.exit(f"in the wheel or in the tree alone: {wrong}")
    if wheel.stat().st_size > MAX_MB*1e6: sys.exit(f"{wheel.stat().st_size/1e6:.1f} MB, more than {MAX_MB}")
    meta = metadata(wheel)
    if not meta["License-Expression"]: sys.exit("the metadata has no License-Expression")
    relative = re.findall(r"\]\((?!\w+:|#)[^)]*\)", meta.get_payload())
    if relative: sys.exit(f"the README of the wheel has relative links: {relative}")
    n_weights = sum(n.endswith(".safetensors") for n in wanted)
    print(f"{wheel.name}: {wheel.stat().st_size/1e6:.1f} MB, {len(wanted)} files, {n_weights} of them weights")


def metadata(wheel:Path): # a message, as in importlib.metadata
    "Read the metadata of a wheel."
    archive = ZipFile(wheel)
    return message_from_bytes(archive.read(next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))))


def needed(requirements:list[str])->dict: # name -> installed distribution
    "Follow requirements to everything that they need here."
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    found, waiting = {}, [(Requirement(r), "") for r in requirements]
    done = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate(dict(extra=extra)): continue
        name = canonicalize_name(requirement.name)
        try: found[name] = distribution(requirement.name)
        except PackageNotFoundError: sys.exit(f"{requirement} is not installed here; try --fresh")
        for extra in {"", *requirement.extras} - {e for n, e in done if n == name}:
            done.add((name, extra))
            waiting += [(Requirement(r), extra) for r in found[name].requires or []]
    return found


def link_packages(distributions:dict, folder:Path):
    "Link what belongs to some installed distributions into one folder, and nothing else."
    folder.mkdir()
    for dist in distributions.values():
        for top in {f.parts[0] for f in dist.files or [] if f.parts[0] not in ("..", "__pycache__")}:
            source = Path(dist.locate_file(top))
            if source.exists() and not (folder/top).exists(): (folder/top).symlink_to(source)


def make_environment(folder:Path, wheel:Path, fresh:bool)->Path: # folder of its commands
    "Make the environment and install the wheel."
    venv.create(folder, with_pip=False, symlinks=not WINDOWS)
    bin = folder/("Scripts" if WINDOWS else "bin")
    options = []
    if not fresh:
        found = needed(metadata(wheel).get_all("Requires-Dist"))
        link_packages(found, folder/"linked")
        own = run(bin/"python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
        Path(own.strip(), "linked.pth").write_text(str(folder/"linked"), encoding="utf-8")
        options = ["--no-deps", "--no-index"]
        print(f"reusing {len(found)} packages")
    run(sys.executable, "-m", "pip", "--python", bin/"python", "install", "--quiet", *options, wheel, cwd=folder)
    return bin


IMPORT_ALL = """
import importlib, json, pkgutil, sys
from slowddim.all import *
import slowddim
for module in pkgutil.iter_modules(slowddim.__path__, "slowddim."): importlib.import_module(module.name)
print(json.dumps(dict(file=slowddim.__file__, version=slowddim.__version__)))
"""


PHOTOS = """
import numpy, pathlib
from PIL import Image
rng = numpy.random.default_rng(0)
for i in range(40):
    place = pathlib.Path("photos", ("dark", "bright")[i % 2])
    place.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(120*(i % 2), 120 + 120*(i % 2), (*rng.integers(9, 14, 2), 3), dtype=numpy.uint8)
    Image.fromarray(pixels).convert(("RGB", "L", "P", "RGBA")[i//2 % 4]).save(place/f"{i}.png")
(place/"broken.jpg").write_bytes(b"half an image")
"""
EVENING = """
train --data photos --size 8 --skip-broken --widths 32 --patch-size 1 --total-steps 30 --bs 8 --sample-every 0 --out own
sample --model own --label all --n 4 --steps 4 --out asked.png
sample --model own --n 40 --steps 4 --out samples.npz
fid samples.npz --reference photos --skip-broken --size 8 --out score.json
reconstruct photos --model own --skip-broken --n 4 --steps 4 --out round.png
interpolate --model own --n 2 --steps 4 --out between.png
""" # what somebody does who has a folder of images


def use(bin:Path, folder:Path, version:str):
    "Use the installed package in an empty folder."
    hidden = ("PYTHONPATH", "SLOWDDIM_DATA", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in hidden} | dict(MPLBACKEND="agg", PYTHONNOUSERSITE="1")
    python, command = bin/"python", bin/"slowddim"
    loaded = json.loads(run(python, "-c", IMPORT_ALL, cwd=folder, env=env).splitlines()[-1])
    if bin.parent not in Path(loaded["file"]).parents: sys.exit(f"imported {loaded['file']}")
    starts = ((command,), (python, "-m", "slowddim"), (python, "-m", "slowddim.cli"))
    said = [run(*words, "--version", cwd=folder, env=env).strip() for words in starts]
    if set(said) != {f"slowddim {version}"} or loaded["version"] != version: sys.exit(f"versions: {said}, {loaded}")
    for name in ("sample", "train", "fid", "table"): run(command, name, "--help", cwd=folder, env=env)
    sample = ("sample", "--n", "4", "--steps", "4", "--out", "samples.png", "--quiet")
    print(run(command, *sample, cwd=folder, env=env).strip())
    left = [p.name for p in folder.iterdir()]
    if left != ["samples.png"]: sys.exit(f"files in the folder: {left}")
    run(python, "-c", PHOTOS, cwd=folder, env=env)
    for line in EVENING.strip().splitlines():
        print(f"slowddim {line}", run(command, *line.split(), "--quiet", cwd=folder, env=env).strip(), sep="\n")


def main():
    "Build, look, install, use."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="let pip install everything instead of linking it")
    parser.add_argument("--keep", type=Path, help="put the wheel and the source archive here in the end")
    args = parser.parse_args()
    with TemporaryDirectory() as tmp:
        tmp = Path(tmp).resolve()
        for name in ("dist", "empty"): (tmp/name).mkdir()
        wheel = build(tmp/"dist", isolated=args.fresh)
        check_contents(wheel)
        use(make_environment(tmp/"env", wheel, args.fresh), tmp/"empty", metadata(wheel)["Version"])
        if args.keep: shutil.copytree(tmp/"dist", args.keep, dirs_exist_ok=True)
    print("the wheel works outside the repository")


if __name__ == "__main__": main()

"""Break formulas on purpose, one at a time, and list those that nobody notices: `tools/mutants.py [name ...]`.

Each mutant changes one line of a page and of its module, in a copy of the repository. It is noticed if the page's own
checks fail, or one of the tests named beside it. A run of all writes results/mutants.json. Exit code 1 if a mutant
survives. Takes half an hour; not part of `make test`.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from slowddim.files import write_json

ROOT = Path(__file__).parent.parent
COPIED = ("nbs/api", "slowddim", "tests", "settings.ini", "pyproject.toml", "pytest.ini")


class Mutant(NamedTuple):
    "A formula, and a wrong one in its place."
    page: str # from nbs/api, without ending
    right: str # in one of its exported cells
    wrong: str
    tests: str = "" # files that may notice, if the page does not


SAMPLING, TRAINING = "2_sampling", "5_training"
MUTANTS = {
    "eq. 12 without its second term":
        Mutant(f"{SAMPLING}/04_steps", "step.of_x0*x_0 + step.of_eps*eps +", "step.of_x0*x_0 +"),
    "clipping keeps the predicted noise":
        Mutant(f"{SAMPLING}/04_steps",
               'x_0, eps = PREDICTIONS["x_0"].read(x_0.clamp(*clip), x_t, step.signal, step.noise)',
               "x_0 = x_0.clamp(*clip)"),
    "memory holds the noise before clipping":
        Mutant(f"{SAMPLING}/04_steps", "past.appendleft((x_0, eps))", "past.appendleft((x_0, prediction))"),
    "memory the wrong way round":
        Mutant(f"{SAMPLING}/04_steps", "past.appendleft(", "past.append(", "test_ode.py"),
    "v read with the signs swapped":
        Mutant(f"{SAMPLING}/02_noising", "return signal*x_t - noise*v, noise*x_t + signal*v",
               "return signal*x_t + noise*v, noise*x_t - signal*v"),
    "sigma without eta":
        Mutant(f"{SAMPLING}/06_ddim", "sigma = eta*step_variance", "sigma = step_variance"),
    "sigma-hat in the middle term":
        Mutant(f"{SAMPLING}/06_ddim", "share, sigma = step_variance(ab, ab_prev),",
               'share, sigma = step_variance(ab, ab_prev, "hat"),', "test_oracles.py"),
    "posterior mean with alpha-bar for alpha":
        Mutant(f"{SAMPLING}/05_ddpm", "of_xt = (ab/ab_prev)**0.5*", "of_xt = ab**0.5*"),
    "Adams-Bashforth without step lengths":
        Mutant(f"{SAMPLING}/07_ode", "change = step.of_x0*h*h/(2*h_before)", "change = step.of_x0*h/2"),
    "Adams-Bashforth 3 with 2 u for 3 u":
        Mutant(f"{SAMPLING}/07_ode", "w1, w2 = h*h*(2*h - 3*u2)", "w1, w2 = h*h*(2*h - 2*u2)"),
    "Heun adds the whole change":
        Mutant(f"{SAMPLING}/07_ode", "weight:float=0.5", "weight:float=1."),
    "2M measures lengths in sigma":
        Mutant(f"{SAMPLING}/07_ode", "h, h_before = math.log(now/then), math.log(before/now)",
               "h, h_before = now - then, before - now"),
    "Heun costs one evaluation a time":
        Mutant(f"{SAMPLING}/07_ode", "evaluations=lambda S: 2*S - 1", "evaluations=int", "test_ode.py"),
    "half a correction of the inverse":
        Mutant(f"{SAMPLING}/08_latent", "schedule, weight=1.)]*refine", "schedule, weight=0.5)]*refine"),
    "guidance from the label":
        Mutant(f"{SAMPLING}/09_guidance", "eps_null + self.scale*", "eps_label + self.scale*"),
    "average's decay with max for min":
        Mutant(f"{TRAINING}/03_train", "return min(decay, (1 + step)/(10 + step))",
               "return max(decay, (1 + step)/(10 + step))"),
    "min-SNR of 1 for 5":
        Mutant(f"{TRAINING}/03_train", "snr.clamp(max=5)", "snr.clamp(max=1)"),
    "embedded step without the root":
        Mutant(f"{TRAINING}/05_adaptive", "(tol/error.clamp(min=1e-12)).sqrt()", "(tol/error.clamp(min=1e-12))"),
    "cropping an odd margin":
        Mutant("1_core/01_core", "top, left = (h - height)//2, (w - width)//2",
               "top, left = (h - height + 1)//2, (w - width + 1)//2"),
    "trailing spacing one too early":
        Mutant(f"{SAMPLING}/01_schedule", "round(Fraction(T*(S - i), S)) - 1", "round(Fraction(T*(S - i), S)) - 2"),
    "cosine schedule without its square":
        Mutant(f"{SAMPLING}/01_schedule", "* math.pi/2)**2", "* math.pi/2)"),
}


def copy_repository(folder:Path)->None:
    "Copy what pages and tests need; models, results and the rest are links."
    for name in COPIED:
        source = ROOT/name
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir(): shutil.copytree(source, folder/name, ignore=shutil.ignore_patterns("__pycache__"))
        else: shutil.copy(source, folder/name)
    for path in ROOT.iterdir():
        if path.name not in (".git", "nbs") and not (folder/path.name).exists(): (folder/path.name).symlink_to(path)


def replace_once(text:str, mutant:Mutant, where:str)->str:
    "Put the wrong formula in place of the right one; a `ValueError` if that is not there exactly once."
    if text.count(mutant.right) != 1: raise ValueError(f"{where} has {mutant.right!r} {text.count(mutant.right)} times")
    return text.replace(mutant.right, mutant.wrong)


def break_formula(folder:Path, mutant:Mutant)->tuple[Path, Path]: # page and module, changed
    "Write the mutant into the copy."
    page = folder/"nbs"/"api"/f"{mutant.page}.ipynb"
    module = folder/"slowddim"/f"{page.stem.split('_', 1)[1]}.py"
    right, wrong = (json.dumps(text, ensure_ascii=False)[1:-1] for text in (mutant.right, mutant.wrong))
    written = mutant._replace(right=right, wrong=wrong)
    page.write_text(replace_once(page.read_text("utf-8"), written, page.name), "utf-8")
    module.write_text(replace_once(module.read_text("utf-8"), mutant, module.name), "utf-8")
    return page, module


def passes(folder:Path, *command)->bool:
    "Run a command in the copy."
    env = os.environ | dict(PYTHONPATH=str(folder), MPLBACKEND="agg")
    return subprocess.run(command, cwd=folder, env=env, capture_output=True).returncode == 0


def page_passes(folder:Path, page:Path)->bool:
    "Run a page's own checks."
    return passes(folder, Path(sys.executable).parent/"nbdev-test", page, "--n-workers", "0")


def tests_pass(folder:Path, test:str)->bool:
    "Run a file of tests."
    return passes(folder, sys.executable, "-m", "pytest", "-q", "-x", f"tests/{test}")


def noticed_by(folder:Path, mutant:Mutant)->str: # who noticed; "" for nobody
    "Try one mutant on a copy that is whole, and leave it whole."
    files = [p for p in folder.rglob("*") if p.suffix in (".ipynb", ".py") and not p.is_symlink()]
    kept = {path: path.read_bytes() for path in files}
    try:
        page, _ = break_formula(folder, mutant)
        if not page_passes(folder, page): return "its page"
        return next((test for test in mutant.tests.split() if not tests_pass(folder, test)), "")
    finally:
        for path, text in kept.items(): path.write_bytes(text)


def check_whole(folder:Path, mutants:list[Mutant])->None:
    "Everything must pass before anything is broken; `SystemExit` if not."
    for page in sorted({m.page for m in mutants}):
        if not page_passes(folder, folder/"nbs"/"api"/f"{page}.ipynb"): sys.exit(f"{page} fails as it is")
    for test in sorted({t for m in mutants for t in m.tests.split()}):
        if not tests_pass(folder, test): sys.exit(f"{test} fails as it is")


def main():
    "Try the mutants and tell who noticed."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"some of: {', '.join(MUTANTS)}; default all")
    names = parser.parse_args().names or list(MUTANTS)
    unknown = [name for name in names if name not in MUTANTS]
    if unknown: parser.error(f"unknown mutants {unknown}")
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        copy_repository(Path(tmp))
        check_whole(Path(tmp), [MUTANTS[name] for name in names])
        for name in names:
            by = noticed_by(Path(tmp), MUTANTS[name])
            print(f"{name:<45} {'noticed by ' + by if by else 'SURVIVES'}", flush=True)
            mutant = MUTANTS[name]
            rows.append(dict(broken=name, page=mutant.page, right=mutant.right, wrong=mutant.wrong, noticed_by=by))
    if len(names) == len(MUTANTS):
        write_json(ROOT/"results"/"mutants.json", dict(command="python tools/mutants.py", rows=rows))
    print(f"{sum(bool(row['noticed_by']) for row in rows)} of {len(rows)} noticed")
    return int(not all(row["noticed_by"] for row in rows))


if __name__ == "__main__": sys.exit(main())

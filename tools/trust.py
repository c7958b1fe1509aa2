"""Try everything that users, disks and other programs do to the library, and write how much of it held.

Run: python tools/trust.py [--kind 7] [--few]   (`make trust`; a quarter of an hour). Writes results/reliability.json,
a row as each kind ends; the same command goes on with the kinds that are not there yet, or were tried on other code.
"""
import argparse
import hashlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/"tests"))

from hostile import KINDS, all_cases # noqa: E402

from slowddim.files import machine_facts, read_json, write_json # noqa: E402

RESULT = ROOT/"results"/"reliability.json"


def digest_code()->str:
    "Return a digest of what is tried and of the cases."
    digest = hashlib.sha256()
    for path in sorted([*(ROOT/"slowddim").glob("*.py"), *(ROOT/"tests"/"hostile").glob("*.py")]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def write_row(new:dict)->None:
    "Put a row in the place of its kind."
    rows = {r["kind"]: r for r in read_json(RESULT)["rows"]} if RESULT.is_file() else {}
    rows[new["kind"]] = new
    write_json(RESULT, dict(command="python tools/trust.py", machine=machine_facts(torch.device("cpu")),
                            rows=[rows[kind] for kind in sorted(rows)]))


def tried(case, n:int)->list: # (what was tried, what was wrong or None); a case that breaks is a fault too
    "Run one case in a folder of its own."
    found = []
    with tempfile.TemporaryDirectory() as folder:
        try: found.extend(case.run(Path(folder), n))
        except Exception: found.append(("the case itself", traceback.format_exc(limit=-1)))
    return found or [("the case itself", "nothing was tried")]


def row(kind:int, cases:list, few:bool, code:str="")->dict: # what is written
    "Run all cases of a kind."
    tic, found = time.perf_counter(), {}
    for case in tqdm(cases, desc=KINDS[kind], unit="case"):
        found[case.name] = tried(case, case.few if few else case.many)
    total, wrong = sum(map(len, found.values())), []
    for name, outcomes in found.items():
        wrong += [f"{name}: {what}: {fault}" for what, fault in outcomes if fault is not None]
    counts = {name: len(outcomes) for name, outcomes in found.items()}
    return dict(kind=kind, what=KINDS[kind], code=code, tried=total, held=total - len(wrong), wrong=wrong, cases=counts,
                seconds=round(time.perf_counter() - tic, 1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kind", type=int, nargs="+", choices=list(KINDS), metavar="N", default=[],
                   help=f"these kinds only, of {min(KINDS)} to {max(KINDS)}")
    p.add_argument("--few", action="store_true", help="as many as in `make test`; nothing is written")
    args = p.parse_args()
    cases, code = all_cases(), digest_code()
    done = {r["kind"] for r in read_json(RESULT)["rows"] if r["code"] == code} if RESULT.is_file() else set()
    kinds = args.kind or sorted({c.kind for c in cases} - (set() if args.few else done))
    rows = []
    for kind in kinds:
        rows.append(row(kind, [c for c in cases if c.kind == kind], args.few, code))
        if not args.few: write_row(rows[-1])
        print(f"{rows[-1]['held']:5} of {rows[-1]['tried']:5} {KINDS[kind]}", *rows[-1]["wrong"], sep="\n      ",
              flush=True)
    return int(any(r["wrong"] for r in rows))


if __name__ == "__main__": sys.exit(main())

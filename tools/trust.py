"""Try everything that users, disks and other programs do to the library, and write how much of it held.

Run: python tools/trust.py [--kind 7] [--few]   (`make trust`; about half an hour). Writes results/reliability.json.
"""
import argparse
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

from slowddim.files import machine_facts, write_json # noqa: E402


def tried(case, n:int)->list: # (what was tried, what was wrong or None); a case that breaks is a fault too
    "Run one case in a folder of its own."
    found = []
    with tempfile.TemporaryDirectory() as folder:
        try: found.extend(case.run(Path(folder), n))
        except Exception: found.append(("the case itself", traceback.format_exc(limit=-1)))
    return found or [("the case itself", "nothing was tried")]


def row(kind:int, cases:list, few:bool)->dict: # what is written, plus the faults
    "Run all cases of a kind."
    tic, found = time.perf_counter(), {}
    for case in tqdm(cases, desc=KINDS[kind], unit="case"):
        found[case.name] = tried(case, case.few if few else case.many)
    total, wrong = sum(map(len, found.values())), []
    for name, outcomes in found.items():
        wrong += [f"{name}: {what}: {fault}" for what, fault in outcomes if fault is not None]
    counts = {name: len(outcomes) for name, outcomes in found.items()}
    return dict(kind=kind, what=KINDS[kind], tried=total, held=total - len(wrong), wrong=wrong, cases=counts,
                seconds=round(time.perf_counter() - tic, 1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--kind", type=int, choices=list(KINDS), help="this kind only; nothing is written")
    p.add_argument("--few", action="store_true", help="as many as in `make test`; nothing is written")
    args = p.parse_args()
    cases = all_cases()
    kinds = [args.kind] if args.kind else sorted({c.kind for c in cases})
    rows = [row(kind, [c for c in cases if c.kind == kind], args.few) for kind in kinds]
    for r in rows:
        print(f"{r['held']:5} of {r['tried']:5} {r['what']}", *r["wrong"], sep="\n      ")
    if not (args.kind or args.few):
        path = ROOT/"results"/"reliability.json"
        write_json(path, dict(command="python tools/trust.py", machine=machine_facts(torch.device("cpu")), rows=rows))
        print(path.relative_to(ROOT))
    return int(any(r["wrong"] for r in rows))


if __name__ == "__main__": sys.exit(main())

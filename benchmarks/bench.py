"""Measure slowddim beside other libraries: same weights, same run, in turns.

Writes results/benchmarks.json (with --quick: results/quick/benchmarks.json, tiny sizes that test the script alone).
A run that was cut off goes on where it stopped, on the same processor with the same weights, threads and torch; where
everything asked for is finished, all of it is measured anew.

Run: python benchmarks/bench.py [--only sampling training ...] [--quick] [--again] [--threads 2]
"""
import argparse
import os
import sys
import time
import warnings
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1" # the bars of other libraries; before they are imported
os.environ["CUDA_VISIBLE_DEVICES"] = "" # all on the processor

import torch # noqa: E402
from diffusers.utils import logging # noqa: E402
from paired import facts, reason, say # noqa: E402
from sections import SECTIONS, Plan # noqa: E402

from slowddim.files import read_json, weights_dir, write_json# noqa: E402

ROOT = Path(__file__).parent.parent
SAME = ("device", "threads", "torch", "shipped") # a section goes on only where these have not changed


def parse(argv=None)->argparse.Namespace:
    "Read the command line."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION",
                        help=f"some of {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, written to results/quick")
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--threads", type=int, help="of torch; default: its own choice")
    parser.add_argument("--budget", type=float, default=1., help="factor of the time for the rounds")
    parser.add_argument("--out", type=Path, help="another file")
    return parser.parse_args(argv)


def machine_and_weights()->dict:
    "Describe where a section runs, and with which shipped network."
    return facts() | dict(shipped=read_json(weights_dir()/"fashion_mnist"/"card.json")["digest"])


def open_section(file:Path, name:str, machine:dict, again:bool)->dict: # with the rows that may be kept
    "Return a section as far as it has come on this machine."
    old = read_json(file)["sections"].get(name) if file.is_file() else None
    if again or old is None or any(old["machine"].get(k) != machine[k] for k in SAME):
        return dict(machine=machine, complete=False, rows=[])
    return old


def save(file:Path, name:str, section:dict, quick:bool)->None:
    "Put one section into the file; the others stay."
    result = read_json(file) if file.is_file() else dict(sections={})
    sections = result["sections"] | {name: section}
    write_json(file, dict(command="make bench", quick=quick, machine=section["machine"],
                          sections={k: sections[k] for k in SECTIONS if k in sections}))


def measure(name:str, plan:Plan, file:Path, again:bool)->bool: # False: it failed, what it had is kept
    "Run one section, row by row into the file."
    say(f"{name}: {SECTIONS[name].__doc__}")
    section, tic = open_section(file, name, machine_and_weights(), again), time.perf_counter()
    if section["complete"]:
        say("  finished before")
        return True
    have = {tuple(row["key"]) for row in section["rows"]}
    try:
        for row in SECTIONS[name](plan, have):
            section["rows"].append(row)
            save(file, name, section, plan.quick)
    except Exception as error: # the sections after this one are still worth measuring
        section["error"] = reason(error)
        save(file, name, section, plan.quick)
        say(f"  {name} stopped: {section['error']}")
        if plan.quick: raise
        return False
    section.pop("error", None)
    section["complete"] = True
    section["seconds"] = round(section.get("seconds", 0) + time.perf_counter() - tic, 1)
    save(file, name, section, plan.quick)
    say(f"  {name}: {time.perf_counter() - tic:.0f} s")
    return True


def compile_nothing()->None:
    "Let torch.compile trace alone, for quick runs: the C++ of one network takes a minute."
    compile_ = torch.compile

    def traced(*args, **kwargs): return compile_(*args, **kwargs | dict(backend="eager"))
    torch.compile = traced


def main()->int: # 0, or 1 when a section failed
    "Measure and write."
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
        os.environ["OMP_NUM_THREADS"] = str(args.threads) # of the fresh processes
    file = args.out or ROOT/"results"/("quick" if args.quick else "")/"benchmarks.json"
    plan = Plan(args.quick, args.budget)
    if args.quick: compile_nothing()
    warnings.filterwarnings("ignore") # of other libraries, between the lines of progress
    logging.set_verbosity_error()
    tic, here = time.perf_counter(), machine_and_weights()
    finished = all(open_section(file, name, here, False)["complete"] for name in args.only)
    done = [measure(name, plan, file, args.again or args.quick or finished) for name in args.only]
    say(f"{file} after {time.perf_counter() - tic:.0f} s")
    return 0 if all(done) else 1


if __name__ == "__main__": sys.exit(main())

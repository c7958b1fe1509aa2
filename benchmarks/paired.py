"""Paired timing: candidates take turns within one run, so that a slow moment of the machine hits all of them.

A measurement is a dictionary of candidates; each holds one number of seconds a round, in the order of the rounds. A
ratio of two candidates is the median over the rounds in which both ran, with the 10 and 90 % points beside it.
"""
import gc
import os
import platform
import statistics
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from slowddim.files import machine_facts

BF16_FLAGS = ("amx_bf16", "avx512_bf16")
PACKAGES = ("diffusers", "accelerate", "k-diffusion", "smalldiffusion", "denoising-diffusion-pytorch", "torch-fidelity",
            "pytorch-fid")


def say(text:str)->None:
    "Print a line of progress at once."
    print(text, flush=True)


def reason(error:BaseException)->str: # one line
    "Say in one line why something is absent."
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:240]


def processor_flags()->dict[str, bool]:
    "Say which bfloat16 instructions the processor has (Linux; elsewhere none are claimed)."
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    flags = next((line.split(":")[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    return {name: name in flags for name in BF16_FLAGS}


def _version(package):
    try: return version(package)
    except PackageNotFoundError: return None


def facts()->dict:
    "Describe the machine and the packages of a section."
    found = {name: _version(name) for name in PACKAGES}
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None # of the minute before
    return dict(**machine_facts(torch.device("cpu")), **processor_flags(), cores=os.cpu_count(),
                system=platform.system(), load_average=load,
                packages={k: v for k, v in found.items() if v})


def seconds(run)->float:
    "Time one call; a candidate that returns a float has taken its own time."
    gc.collect()
    tic = time.perf_counter()
    own = run()
    return own if isinstance(own, float) else time.perf_counter() - tic


def warm(candidates:dict)->tuple[dict, dict]: # seconds of the first call of each that runs; reasons of the others
    "Call each once; one that fails becomes absent, with its reason."
    first, absent = {}, {}
    for name, run in candidates.items():
        try: first[name] = seconds(run)
        except Exception as error: # a peer may fail in any way, and the rest is still worth measuring
            absent[name] = reason(error)
        say(f"    {name}: " + (f"first call {first[name]:.2f} s" if name in first else f"absent, {absent[name]}"))
    return first, absent


def typical(found:list)->float: # median of the rounds in which a candidate ran
    "Return the median of what is there."
    return statistics.median(v for v in found if v is not None)


def take_turns(candidates:dict, # name -> function without arguments; a float it returns counts as its seconds
               budget:float, # seconds for all rounds together, warm-up apart
               *, least:int=3, # rounds at least
               most:int=25, # and at most
               slow:float=4. # a candidate this many times slower than the fastest runs in the first `least` rounds only
              )->dict: # name -> {"seconds": one a round, or None; "first_seconds"} or {"absent": reason}
    "Measure candidates in turns until the budget is spent; every round starts with another one."
    first, absent = warm(candidates)
    names, taken = list(first), {name: [] for name in first}
    gc.collect()
    gc.freeze() # what is there stays, so the collection before each call is short
    start = time.perf_counter()
    for i in range(most):
        spent = time.perf_counter() - start
        if i >= least and spent + spent/i > budget: break
        fastest = min((typical(v) for v in taken.values() if v), default=0.)
        turn = i % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            if i >= least and typical(taken[name]) > slow*fastest:
                taken[name].append(None)
                continue
            taken[name].append(seconds(candidates[name]))
    gc.unfreeze()
    say(f"    {len(next(iter(taken.values()), []))} rounds in {time.perf_counter() - start:.0f} s")
    rows = {name: dict(seconds=[None if v is None else round(v, 6) for v in taken[name]],
                       first_seconds=round(first[name], 3)) for name in names}
    return rows | {name: dict(absent=why) for name, why in absent.items()}


def median_seconds(row:dict)->float|None: # None: absent
    "Median seconds of one candidate."
    return None if "absent" in row else typical(row["seconds"])


def times_as_fast(rows:dict, # from `take_turns`
                  a:str, # a candidate
                  b:str # another
                 )->dict|None: # {"value", "interval": 10 and 90 % of the rounds, "rounds"}; None: one is absent
    "Say how many times as fast as `b` the candidate `a` is: the median of the paired ratios."
    if any("absent" in rows.get(name, dict(absent="not measured")) for name in (a, b)): return None
    pairs = zip(rows[a]["seconds"], rows[b]["seconds"])
    ratios = sorted(theirs/ours for ours, theirs in pairs if ours and theirs)
    if not ratios: return None
    tenth = len(ratios)//10
    return dict(value=round(statistics.median(ratios), 4), rounds=len(ratios),
                interval=[round(ratios[tenth], 4), round(ratios[-1 - tenth], 4)])


def compare(rows:dict, base:str)->dict: # the same rows with "median_seconds" and "ratio" beside the seconds
    "Add to each candidate its median and how many times as fast as the base it is."
    return {name: row if "absent" in row else dict(row, median_seconds=round(median_seconds(row), 6),
                                                   ratio=times_as_fast(rows, name, base)) for name, row in rows.items()}

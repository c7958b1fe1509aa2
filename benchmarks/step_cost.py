"""What one scheduler step costs: ours against diffusers' DDIMScheduler, on one 32x32 image, in turns within one run.
And what a look for NaN costs beside an evaluation of the shipped network.

Writes results/step_cost.json. Run: python benchmarks/step_cost.py [--repeats 300] [--quick]
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from diffusers import DDIMScheduler
from tqdm import tqdm

from slowddim.core import all_finite
from slowddim.files import machine_facts, write_json
from slowddim.pretrained import load_pretrained
from slowddim.schedulers import DiffusersStyleDDIM

ROOT = Path(__file__).parent.parent


def seconds_per_step(sched, x, eps, eta:float)->float: # of one walk over the scheduler's own timesteps
    "Time one walk over all visited times."
    generator = torch.Generator().manual_seed(0)
    tic = time.perf_counter()
    for t in sched.timesteps: sched.step(eps, t, x, eta=eta, generator=generator)
    return (time.perf_counter() - tic)/len(sched.timesteps)


def compare(eta:float, repeats:int, S:int=50)->dict: # medians in microseconds, and the ratio of each pair
    "Let both walk in turns, so that a slow moment of the machine hits both."
    x, eps = torch.randn(1, 1, 32, 32), torch.randn(1, 1, 32, 32)
    ours, theirs = DiffusersStyleDDIM(), DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    for sched in (ours, theirs): sched.set_timesteps(S)
    for sched in (ours, theirs): seconds_per_step(sched, x, eps, eta) # warm up
    pairs = [[seconds_per_step(sched, x, eps, eta) for sched in (ours, theirs)]
             for _ in tqdm(range(repeats), desc=f"eta={eta:g}", unit="walk")]
    ratios = sorted(a/b for a, b in pairs)
    ours_us, theirs_us = (statistics.median(pair[i] for pair in pairs)*1e6 for i in (0, 1))
    return dict(eta=eta, steps_per_walk=S, repeats=repeats, ours_us=round(ours_us, 2), diffusers_us=round(theirs_us, 2),
                ratio=round(statistics.median(ratios), 3), ratio_p10=round(ratios[len(ratios)//10], 3),
                ratio_p90=round(ratios[-1 - len(ratios)//10], 3))


@torch.inference_mode()
def look_cost(n:int, repeats:int)->dict: # medians in microseconds, and the share in per cent
    "Time the check that follows each network evaluation, and the evaluation, for a batch of n images."
    net, _ = load_pretrained("fashion_mnist")
    x, t = torch.randn(n, 1, 32, 32), torch.full((n,), 500)
    def seconds(f, *args):
        tic = time.perf_counter()
        f(*args)
        return time.perf_counter() - tic
    net(x, t) # warm up
    pairs = [(seconds(net, x, t), seconds(all_finite, x)) for _ in range(repeats)]
    evaluation, look = (statistics.median(pair[i] for pair in pairs)*1e6 for i in (0, 1))
    return dict(images=n, repeats=repeats, evaluation_us=round(evaluation), look_us=round(look, 1),
                percent=round(100*look/evaluation, 4))


def write(rows:list, looks:list|None=None)->Path: # the file; the section "step" of bench.py writes it too
    "Write what was measured, on one thread."
    path = ROOT/"results"/"step_cost.json"
    write_json(path, dict(command="python benchmarks/step_cost.py", image=[1, 1, 32, 32],
                          machine=machine_facts(torch.device("cpu")), rows=rows,
                          **dict(looks=looks) if looks else {}))
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=300, help="walks of 50 steps for each scheduler")
    p.add_argument("--quick", action="store_true", help="10 walks, nothing written")
    args = p.parse_args()
    torch.set_num_threads(1) # one small image: a second thread only adds waiting
    rows = [compare(eta, 10 if args.quick else args.repeats) for eta in (0., 1.)]
    for row in rows:
        print(f"eta={row['eta']:g}: ours {row['ours_us']} us, diffusers {row['diffusers_us']} us, ratio {row['ratio']}")
    looks = [look_cost(n, 3 if args.quick else 30) for n in (1, 64)]
    for look in looks:
        print(f"{look['images']} images: looking for NaN {look['look_us']} us, {look['percent']} % of an evaluation")
    if not args.quick: print(write(rows, looks).relative_to(ROOT))


if __name__ == "__main__": sys.exit(main())

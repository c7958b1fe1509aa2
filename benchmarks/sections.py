"""The sections of the benchmark: each measures one question and yields its finished rows, one after another."""
import copy
import inspect
import itertools
import os
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import peers
import step_cost
import torch
from diffusers import UNet2DModel
from paired import compare, reason, say, seconds, take_turns
from torch.utils.flop_counter import FlopCounterMode

from slowddim.core import model_shape
from slowddim.data import ImageSet, load_data
from slowddim.distances import frechet_distance, moments
from slowddim.fid import ImageEval
from slowddim.pretrained import load_pretrained
from slowddim.schedule import linear_schedule
from slowddim.steps import SOLVERS
from slowddim.train import train
from slowddim.unet import UNet, fashion_unet

ROOT = Path(__file__).parent.parent
FIRST = ROOT/"models"/"fashion_mnist_small"


@dataclass
class Plan:
    "How much is measured."
    quick: bool = False # tiny sizes
    minutes: float = 1. # factor of all budgets

    @property
    def steps(self)->int: return self.pick(10, 2) # evaluations of a sample

    def budget(self, s:float)->float: return 0. if self.quick else s*self.minutes

    def rounds(self, n:int)->int: return 2 if self.quick else n

    def pick(self, full, quick): return quick if self.quick else full


def source_network(): # random weights: the speed does not depend on them
    "Return the source notebook's network and its schedule."
    torch.manual_seed(0)
    return fashion_unet(image_size=28).eval().requires_grad_(False), linear_schedule()


def tiny_network(): # of the same class as the source's, for quick runs
    "Return a network that no number should be taken from, and its schedule."
    model = UNet2DModel(sample_size=32, in_channels=1, out_channels=1, block_out_channels=(8, 16), norm_num_groups=8,
                        layers_per_block=1, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                        up_block_types=("AttnUpBlock2D", "UpBlock2D"))
    return model.eval().requires_grad_(False), linear_schedule()


def networks(plan:Plan)->dict: # name -> function that opens (model, schedule)
    "Name the networks of the comparisons."
    return {"source": plan.pick(source_network, tiny_network), "shipped": load_pretrained}


def first_network(): # the first trained one, where the repository still has it
    "Open the first trained network; the shipped one where there is no other."
    return load_pretrained(str(FIRST) if FIRST.is_dir() else "fashion_mnist")


def later(build): # a candidate that is built at its first call, so that a failure is recorded there
    "Build a candidate when it is first called."
    made = []

    def run():
        if not made: made.append(build())
        return made[0]()
    return run


# -- sampling --------------------------------------------------------------------------------------------------------

def samplers(model, schedule, n:int, steps:int)->dict: # name -> function that samples n images
    "List everything that drives one network."
    def piped(**how): return later(lambda: peers.run_pipeline(peers.pipeline(model, schedule, **how), n, steps))
    def driven(run, *more): return later(lambda: run(copy.deepcopy(model), schedule, n, steps, *more))
    def mine(mode): return later(lambda: peers.ours(copy.deepcopy(model), schedule, n, steps, mode))
    found = {"slowddim": mine("default"), "slowddim fp32": mine("fp32"), "slowddim compiled": mine("compiled"),
             peers.BASE: piped(), "diffusers channels_last": piped(channels_last=True),
             "diffusers channels_last bf16": piped(channels_last=True, bf16=True),
             "k-diffusion dpmpp_2m": driven(peers.run_k_diffusion, "sample_dpmpp_2m"),
             "k-diffusion euler": driven(peers.run_k_diffusion, "sample_euler"),
             "smalldiffusion": driven(peers.run_smalldiffusion),
             "denoising-diffusion-pytorch": driven(peers.run_denoising_diffusion)}
    if n > 64: return found # it would be compiled again for this batch, which takes minutes
    return found | {"diffusers channels_last bf16 compiled": piped(channels_last=True, bf16=True, compiled=True)}


def sampling(plan:Plan, have:set): # yields rows
    "Seconds for 64 and 256 images in ten evaluations."
    for (name, build), n in itertools.product(networks(plan).items(), plan.pick((64, 256), (2,))):
        if (name, n) in have: continue
        say(f"  {name} network, {n} images")
        model, schedule = build()
        found = take_turns(samplers(model, schedule, n, plan.steps), plan.budget(45 if n < 100 else 65),
                           least=plan.rounds(3), most=plan.rounds(25))
        yield dict(key=[name, n], network=name, n=n, evaluations=plan.steps, base=peers.BASE,
                   parameters=sum(p.numel() for p in model.parameters()), candidates=compare(found, peers.BASE))


# -- a step ----------------------------------------------------------------------------------------------------------

def step(plan:Plan, have:set): # yields one row; also writes results/step_cost.json
    "Microseconds of one scheduler step, ours and DDIMScheduler's."
    if ("step",) in have: return
    threads = torch.get_num_threads()
    torch.set_num_threads(1) # one small image: a second thread only adds waiting
    try: rows = [step_cost.compare(eta, plan.pick(300, 5)) for eta in (0., 1.)]
    finally: torch.set_num_threads(threads)
    for row in rows: say(f"    eta={row['eta']:g}: ours {row['ours_us']} us, diffusers {row['diffusers_us']} us")
    if not plan.quick: step_cost.write(rows)
    yield dict(key=["step"], rows=rows, threads=1)


# -- training --------------------------------------------------------------------------------------------------------

def training_networks(plan:Plan)->dict: # name -> network; the shipped one only where it differs from the first
    "Name the networks that are trained."
    torch.manual_seed(0)
    nets = {"first": UNet(widths=(64, 64, 128), image_size=28), "source": networks(plan)["source"]()[0]}
    shipped = load_pretrained()[0]
    def shape(m): return [(k, tuple(v.shape)) for k, v in m.state_dict().items()]
    if shape(shipped) != shape(nets["first"]): nets["shipped"] = shipped
    return nets


def our_steps(model, data, schedule, bs:int, k:int): # -> a function that returns seconds a step
    "Time the steps of our `train` by the moments at which its optimiser has moved."
    make = inspect.signature(train).parameters["opt_func"].default

    def run():
        moments_ = []

        def clocked(*args, **kwargs):
            opt = make(*args, **kwargs)
            opt.register_step_post_hook(lambda *_: moments_.append(time.perf_counter()))
            return opt
        train(model, lr=1e-4, bs=bs, opt_func=clocked, ddpm=schedule, data=data, n_test=0, total_steps=k + 1, seed=0,
              progress=False)
        return (moments_[-1] - moments_[0])/k
    return run


def peer_steps(loop, model, images, schedule, bs:int, k:int): # -> a function that returns seconds a step
    "Time the steps of a loop that yields after each."
    walk = loop(model.train().requires_grad_(True), images, schedule, bs)

    def run():
        next(walk)
        tic = time.perf_counter()
        for _ in range(k): next(walk)
        return (time.perf_counter() - tic)/k
    return run


def training(plan:Plan, have:set): # yields rows
    "Images a second of training loops; the first network takes its turns beside each other one."
    bs, k, schedule = plan.pick(32, 4), plan.pick(6, 1), linear_schedule()
    g = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (plan.pick(2048, 64), 1, 28, 28), generator=g, dtype=torch.uint8)
    data = ImageSet("noise", "train", pixels, torch.zeros(len(pixels), dtype=torch.int64), ("noise",))
    images, nets = data.batch(slice(None), 32), training_networks(plan)
    loops = {peers.BASE: peers.diffusers_steps, "smalldiffusion": peers.smalldiffusion_steps,
             "denoising-diffusion-pytorch": peers.denoising_diffusion_steps}
    for name, model in nets.items():
        if (name,) in have: continue
        say(f"  {name} network, {bs} images a step")
        runs = {"slowddim": later(partial(our_steps, copy.deepcopy(model), data, schedule, bs, k))}
        if name != "first":
            first = copy.deepcopy(nets["first"])
            runs["slowddim, first network"] = later(partial(our_steps, first, data, schedule, bs, k))
        for loop_name, loop in loops.items():
            runs[loop_name] = later(partial(peer_steps, loop, copy.deepcopy(model), images, schedule, bs, k))
        found = compare(take_turns(runs, plan.budget(50), least=plan.rounds(3), most=plan.rounds(15)), peers.BASE)
        for row in found.values():
            if "absent" not in row: row["images_per_second"] = round(bs/row["median_seconds"], 2)
        yield dict(key=[name], network=name, batch_size=bs, steps_per_round=k, base=peers.BASE,
                   parameters=sum(p.numel() for p in model.parameters()), candidates=found)


# -- share of the peak -----------------------------------------------------------------------------------------------

def matrix_peak(dtype, size:int, budget:float)->float: # flop a second
    "Measure how fast torch multiplies two square matrices: the best of several."
    a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
    best, start = seconds(lambda: a @ b), time.perf_counter()
    for _ in range(20):
        best = min(best, seconds(lambda: a @ b))
        if time.perf_counter() - start > budget: break
    return 2*size**3/best


class Stopwatch:
    "Times every evaluation of a network, also of the copies that a sampler makes of it."
    def __init__(self, model):
        self.begun, self.inside = [], []
        model.register_forward_pre_hook(self.before)
        model.register_forward_hook(self.after)

    def __deepcopy__(self, memo): return self # the hooks of a copy report here too

    def before(self, *_): self.begun.append(time.perf_counter())

    def after(self, *_): self.inside.append(time.perf_counter() - self.begun.pop())

    def share(self, run)->tuple[float, float, int]: # seconds of a call, of the network in it, evaluations
        "Call and time."
        self.inside.clear()
        total = seconds(run)
        if not self.inside: raise RuntimeError("the sampler evaluates another network than the one it was given")
        return total, sum(self.inside), len(self.inside)


def peak(plan:Plan, have:set): # yields rows
    "Share of the matrix peak that a network reaches, and share of the sampling loop that is not the network."
    size = plan.pick(2048, 256)
    peaks = {name: matrix_peak(dtype, size, plan.budget(8))
             for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    say("    peak: " + ", ".join(f"{k} {v/1e9:.0f} Gflop/s" for k, v in peaks.items()))
    for (name, build), mode in itertools.product(networks(plan).items(), ("fp32", "eager")):
        if (name, mode) in have: continue
        model, schedule = build()
        n = plan.pick(64, 2)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.randn(1, *model_shape(model)), torch.tensor([500]))
        watch = Stopwatch(model)
        run = peers.ours(model, schedule, n, plan.steps, mode)
        run()
        found = [watch.share(run) for _ in range(plan.rounds(5))]
        flops = counter.get_total_flops()*n*plan.steps
        shares = sorted(1 - inside/total for total, inside, _ in found)
        fastest = min(inside for _, inside, _ in found)
        row = dict(key=[name, mode], network=name, setting="fp32" if mode == "fp32" else "default, not compiled",
                   mflop_per_image=round(counter.get_total_flops()/1e6, 1), evaluations=found[0][2],
                   gflop_per_second=round(flops/fastest/1e9, 1), matrix_size=size,
                   share_of_fp32_peak=round(flops/fastest/peaks["fp32"], 4),
                   share_of_bf16_peak=round(flops/fastest/peaks["bf16"], 4),
                   peak_gflop_per_second={k: round(v/1e9, 1) for k, v in peaks.items()},
                   outside_network=dict(value=round(shares[len(shares)//2], 4),
                                        interval=[round(shares[0], 4), round(shares[-1], 4)]))
        say(f"    {name} {mode}: {row['gflop_per_second']} Gflop/s, {row['outside_network']['value']:.1%} outside")
        yield row


# -- FID against seconds ---------------------------------------------------------------------------------------------

def fid(plan:Plan, have:set): # yields rows, cheap ones first, as many as the time allows
    "FID and seconds an image, for three solvers at 5, 10, 20 and 50 evaluations."
    n, extractor = plan.pick(2048, 8), ImageEval.fashion_mnist()
    who = {"shipped": load_pretrained} | ({"first": first_network} if FIRST.is_dir() else {})
    for name, build in who.items():
        model, schedule = build()
        per_evaluation = seconds(peers.ours(model, schedule, n, 2))/2 # a first call: too much at worst
        left = plan.budget(360)
        for evaluations, solver in itertools.product(plan.pick((5, 10, 20, 50), (5,)), ("ddim", "heun", "dpmpp_2m")):
            if (name, solver, evaluations) in have: continue
            if not plan.quick and left < evaluations*per_evaluation:
                say(f"    {name} {solver}, {evaluations} evaluations: left out, no time (--budget)")
                continue
            steps = SOLVERS[solver].n_times(evaluations)
            tic = time.perf_counter()
            images = peers.ours(model, schedule, n, steps, solver=solver)()
            spent = time.perf_counter() - tic
            with warnings.catch_warnings():
                warnings.simplefilter("ignore") # few images in a quick run
                score = extractor.fid(images, n_boot=plan.rounds(30))
            used = SOLVERS[solver].evaluations(steps)
            left, per_evaluation = left - (time.perf_counter() - tic), spent/used
            say(f"    {name} {solver}, {used} evaluations: FID {float(score):.2f}, {spent:.1f} s")
            yield dict(key=[name, solver, evaluations], network=name, solver=solver, evaluations=used, n=n,
                       fid=score.facts(), seconds_per_image=round(spent/n, 6), seconds=round(spent, 2))


# -- scoring ---------------------------------------------------------------------------------------------------------

def _real_images(n): # test images where the data set is at hand, else noise: the time is the same
    try: return load_data("fashion_mnist", "test").images[:n], "test images"
    except FileNotFoundError:
        g = torch.Generator().manual_seed(0)
        return torch.randint(256, (n, 1, 28, 28), generator=g, dtype=torch.uint8), "noise"


def torch_fidelity_score(features, mean, cov)->float:
    "torch-fidelity's statistics and distance of given features."
    from torch_fidelity import metric_fid
    stat = metric_fid.fid_features_to_statistics(features.double())
    reference = dict(mu=mean.double().numpy(), sigma=cov.double().numpy())
    return next(iter(metric_fid.fid_statistics_to_metric(stat, reference, False).values()))


def pytorch_fid_score(features, mean, cov)->float:
    "pytorch-fid's distance; the statistics are NumPy's, as in its own code."
    import numpy as np
    from pytorch_fid.fid_score import calculate_frechet_distance
    x = features.double().numpy()
    return float(calculate_frechet_distance(np.mean(x, axis=0), np.cov(x, rowvar=False), mean.double().numpy(),
                                            cov.double().numpy()))


def scoring(plan:Plan, have:set): # yields one row
    "Seconds for features and score of 10,000 images, and for the statistics of the same features elsewhere."
    if ("scoring",) in have: return
    images, what = _real_images(plan.pick(10_000, 300))
    extractor = ImageEval.fashion_mnist()
    described = min(seconds(lambda: extractor.features(images)) for _ in range(plan.rounds(3)))
    features = extractor.features(images)
    scorers = {"slowddim": lambda: frechet_distance(*moments(features), extractor.mean, extractor.cov),
               "torch-fidelity": lambda: torch_fidelity_score(features, extractor.mean, extractor.cov),
               "pytorch-fid": lambda: pytorch_fid_score(features, extractor.mean, extractor.cov)}
    values = {}

    def keep(name, score): # a function that returns nothing, so that the call is timed and not its value
        def run(): values[name] = score()
        return run
    found = take_turns({name: keep(name, score) for name, score in scorers.items()}, plan.budget(30),
                       least=plan.rounds(5), most=plan.rounds(15), slow=1e9)
    found = compare(found, "torch-fidelity")
    for name, value in values.items(): found[name]["value"] = value
    full = seconds(lambda: extractor.fid(features))
    yield dict(key=["scoring"], images=what, n=len(images), n_features=features.shape[1], base="torch-fidelity",
               seconds_features=round(described, 3), seconds_score_with_interval=round(full, 3), candidates=found)


# -- start-up and memory ---------------------------------------------------------------------------------------------

NOTE = """
import json, os, resource, sys
def note():
    status = "/proc/self/status"
    lines = open(status).read().splitlines() if os.path.exists(status) else []
    own = [int(line.split()[1])*1024 for line in lines if line.startswith("VmHWM")]
    unit = 1 if sys.platform == "darwin" else 1024
    print("\\nPEAK", own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss*unit)
"""
PIPE = """
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
unet = UNet2DModel(sample_size=32, in_channels=1, out_channels=1, block_out_channels=(32, 64, 128, 256),
                   norm_num_groups=8)
pipe = DDIMPipeline(unet.eval(), DDIMScheduler())
pipe.set_progress_bar_config(disable=True)
pipe(batch_size={n}, num_inference_steps={steps})
"""
COMMAND = "import sys; from slowddim.cli import main; main(sys.argv[1:])"
OURS = """
from slowddim.generate import sample_images
from slowddim.{module} import {build}
from slowddim.schedule import linear_schedule
found = {build}()
model, schedule = found if isinstance(found, tuple) else (found.eval().requires_grad_(False), linear_schedule())
sample_images(model, schedule, {n}, {steps}, progress=False)
"""


def child(code:str, *args)->int: # peak resident memory in bytes
    "Run code in a fresh process."
    where = os.environ | dict(PYTHONPATH=os.pathsep.join(map(str, [ROOT, *sys.path[1:]])))
    out = subprocess.run([sys.executable, "-c", NOTE + code + "\nnote()", *map(str, args)], capture_output=True,
                         text=True, cwd=ROOT, env=where)
    if out.returncode: raise RuntimeError((out.stderr.strip().splitlines() or ["no message"])[-1])
    return int(out.stdout.rsplit("PEAK", 1)[1])


def startup(plan:Plan, have:set): # yields two rows
    "Seconds until a fresh process has done something, and its peak memory."
    if ("start",) not in have:
        with tempfile.TemporaryDirectory() as tmp:
            first = ("sample", "--n", 1, "--steps", 1, "--out", Path(tmp)/"x.png")
            codes = {"import torch": ("import torch",), "import slowddim.ddim": ("import slowddim.ddim",),
                     "import slowddim.pretrained": ("import slowddim.pretrained",),
                     "slowddim sample --n 1 --steps 1": (COMMAND, *first),
                     "diffusers: import the pipeline": (PIPE.splitlines()[1],),
                     "diffusers: one image, one step": (PIPE.format(n=1, steps=1),)}
            def fresh(args): return lambda: (child(*args), None)
            candidates = {name: fresh(args) for name, args in codes.items()}
            found = take_turns(candidates, plan.budget(90),
                               least=plan.pick(3, 1), most=plan.pick(7, 1), slow=1e9)
        yield dict(key=["start"], base="diffusers: one image, one step",
                   candidates=compare(found, "diffusers: one image, one step"))
    if ("memory",) in have: return
    n = plan.pick(256, 2)
    how = dict(n=n, steps=plan.steps)
    codes = {"slowddim, shipped network": OURS.format(module="pretrained", build="load_pretrained", **how),
             "slowddim, source network": OURS.format(module="unet", build="fashion_unet", **how),
             "diffusers, source network": PIPE.format(**how), "import torch": "import torch"}
    peaks = {}
    for name, code in codes.items():
        try: peaks[name] = dict(peak_mb=round(child(code)/1e6))
        except Exception as error: peaks[name] = dict(absent=reason(error))
        say(f"    memory, {name}: {peaks[name]}")
    yield dict(key=["memory"], n=n, evaluations=plan.steps, candidates=peaks)


SECTIONS = dict(step=step, sampling=sampling, training=training, peak=peak, scoring=scoring, startup=startup, fid=fid)

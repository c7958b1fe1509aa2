"A training that is stopped, copied, mistaken for another one, or that shares its process."
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from unittest import mock

import torch
from hostile import agree, case, refused
from torch import nn

from slowddim import train as train_module
from slowddim.adaptive import embedded_sample
from slowddim.cli import main
from slowddim.core import default_device
from slowddim.data import load_data
from slowddim.ddim import ddim_sample
from slowddim.ddpm import ddpm_sample
from slowddim.fast import Arithmetic, fast_copy
from slowddim.files import check_writable, load_tensors, save_tensors
from slowddim.generate import sample_images
from slowddim.latent import encode
from slowddim.ode import log_likelihood, ode_sample
from slowddim.presets import build_model, open_preset
from slowddim.pretrained import load_pretrained, save_pretrained
from slowddim.run import Training, images_after, learning_rate, seeded_draws
from slowddim.schedule import NoiseSchedule, cosine_schedule, linear_schedule
from slowddim.train import Recipe, _lognormal_steps, loss_on, noise_loss, train
from slowddim.unet import UNet, fashion_unet


@cache
def digits(n:int=60): # a few of them, as a set of their own
    full = load_data("digits")
    return replace(full, images=full.images[:n], labels=full.labels[:n], name="few")


def tiny(**how)->UNet:
    with seeded_draws(0): return UNet(**dict(sample_size=8, widths=(32,), patch_size=1, dropout=0.1) | how)


COMMON = dict(lr=1e-3, n_epochs=4, bs=25, seed=3, n_test=0, progress=False)


def run(net:nn.Module|None=None, **how)->tuple[dict, nn.Module]:
    net = tiny() if net is None else net
    return train(net, **dict(COMMON, data=digits()) | how), net


def same(a:nn.Module, b:nn.Module)->bool:
    theirs = b.state_dict()
    return all(torch.equal(v, theirs[k]) for k, v in a.state_dict().items())


# A process that has imported everything, and forks for each trial: a fraction of a second instead of ten.

def serve()->None:
    "Read a job a line, fork, let the child train, and answer with its exit code and its words."
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    run(total_steps=1, opt_func=torch.optim.AdamW)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0: os._exit(_work(job))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(code), flush=True)


def _work(job): # in the child
    with open(job["said"], "w", buffering=1) as said, contextlib.redirect_stderr(said):
        try: return _train_and_stop(job, said)
        except KeyboardInterrupt as e:
            said.write(" ".join(getattr(e, "__notes__", [])))
            return 130
        except BaseException as e:
            said.write(f"{type(e).__name__}: {e}")
            return 1


def _train_and_stop(job, said):
    def opt(params, lr):
        made = torch.optim.AdamW(params, lr=lr)
        made.register_step_pre_hook(lambda *_: Path(job["begun"]).touch() if "begun" in job else None)
        return made
    if "after" in job: # a signal at any moment
        def send():
            time.sleep(job["after"])
            os.kill(os.getpid(), job["signal"])
        threading.Thread(target=send, daemon=True).start()
    if "operation" in job: # a signal at the n-th operation on files
        left = [job["operation"]]
        def note(event, args):
            if event not in ("open", "os.rename", "os.remove", "os.chmod", "tempfile.mkstemp", "os.truncate"): return
            if not any(job["folder"] in str(a) for a in args): return
            left[0] -= 1
            if left[0] == 0: os.kill(os.getpid(), job["signal"])
        sys.addaudithook(note)
    if "line" in job: return main(job["line"])
    log, _ = run(opt_func=opt, checkpoint=job["file"], save_every=job.get("save_every", 0), ema=(0.9,))
    return 0 if log["steps"] == job.get("steps", log["steps"]) else 3


class Server: # answers job after job
    def __init__(self):
        env = dict(os.environ, OMP_NUM_THREADS="1")
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        env.pop("SLOWDDIM_TRACEBACK", None)
        self.process = subprocess.Popen([sys.executable, "-c", "from hostile.training import serve; serve()"], env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, **job)->tuple[int, str]: # exit code, what was said
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())
        return code, Path(job["said"]).read_text()


@cache
def server()->Server: return Server()


def whole(folder:Path)->tuple[dict, float]: # the tensors of a run that nobody stopped, and how long it takes
    file, tic = folder/"whole.safetensors", time.perf_counter()
    code, said = server()(file=str(file), said=str(folder/"said.txt"), folder=str(folder))
    assert code == 0, said
    return load_tensors(file)[0], time.perf_counter() - tic


def resumed(folder:Path, file:Path, expected:dict)->str|None: # is the end the same, to the bit?
    code, said = server()(file=str(file), said=str(folder/"said.txt"), folder=str(folder))
    if code: return f"cannot be resumed: {said}"
    found = load_tensors(file)[0]
    wrong = [k for k in expected if not torch.equal(found[k], expected[k])]
    return f"other weights than without a stop: {wrong[:3]}" if wrong else None


@case(10, few=2, many=24)
def killed_at_any_moment(folder:Path, n:int)->Iterator:
    expected, seconds = whole(folder)
    moments = random.Random(1)
    for i in range(n):
        file, after = folder/f"{i}.safetensors", moments.uniform(0.02, 1.)*seconds
        code, said = server()(file=str(file), said=str(folder/"said.txt"), folder=str(folder), after=after,
                              signal=signal.SIGKILL)
        fault = None if code in (0, -signal.SIGKILL) else f"exit code {code}, {said}"
        yield f"kill -9 after {after:.2f} s", fault if fault else resumed(folder, file, expected)


@case(10, few=1, many=16)
def killed_at_an_operation_on_files(folder:Path, n:int)->Iterator:
    expected, _ = whole(folder)
    for i in range(n):
        own = folder/str(i)
        own.mkdir()
        code, said = server()(file=str(own/"c.safetensors"), said=str(folder/"said.txt"), folder=str(own),
                              operation=1 + i if n > 1 else 9, signal=signal.SIGKILL)
        fault = None if code in (0, -signal.SIGKILL) else f"exit code {code}, {said}"
        yield f"kill -9 at operation {1 + i}", fault if fault else resumed(folder, own/"c.safetensors", expected)


@case(10, few=2, many=24)
def stopped_at_any_moment(folder:Path, n:int)->Iterator: # SIGTERM and SIGINT, in turns
    expected, seconds = whole(folder)
    moments = random.Random(2)
    for i in range(n):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        file, begun, after = folder/f"{i}.safetensors", folder/f"{i}.begun", moments.uniform(0.2, 0.9)*seconds
        code, said = server()(file=str(file), said=str(folder/"said.txt"), folder=str(folder), after=after,
                              signal=number, begun=str(begun), save_every=1e9)
        wanted = 130 if number == signal.SIGINT else -signal.SIGTERM
        fault = None if code in (0, wanted) else f"exit code {code}, {said}"
        if begun.exists() and not file.exists(): fault = f"began, and kept nothing ({said})"
        if code == 130 and ("holds step" in said) != file.exists(): fault = f"said {said!r}, kept: {file.exists()}"
        yield f"{number.name} after {after:.2f} s", fault if fault else resumed(folder, file, expected)


@case(10, few=2, many=8)
def a_command_that_is_stopped(folder:Path, n:int)->Iterator:
    line = ["train", "--data", "digits", "--widths", "32", "--patch-size", "1", "--bs", "50", "--quiet", "--seed", "1",
            "--total-steps", "100000", "--out"]
    for i in range(n):
        number, expected = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[i % 2]
        own, after = folder/f"m{i}", (0.001, 1., 0.02, 3.)[(i + 1)//2 % 4]
        code, said = server()(line=[*line, str(own)], said=str(folder/"said.txt"), folder=str(folder), after=after,
                              signal=number)
        kept = (folder/f"m{i}.checkpoint.safetensors").exists()
        early = code in (-signal.SIGTERM, 130) and not said and after < 0.1 # before the command could catch it
        fault = None if early or code == expected else f"exit code {code}, {said}"
        if ("goes on from here" in said) != kept: fault = f"kept {kept}, said {said!r}"
        if not early and ("Traceback" in said or len(said.strip().splitlines()) != 1): fault = f"said {said!r}"
        yield f"{number.name} after {after} s", fault


@case(10)
def handlers_are_the_callers(folder:Path, n:int)->Iterator:
    def mine(number, frame): raise InterruptedError
    before = signal.signal(signal.SIGTERM, mine), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(total_steps=1, checkpoint=folder/"a.safetensors")
        yield "after a run", agree((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)),
                                   (mine, signal.SIG_IGN))

        def loss(*args): # a signal in the middle of a step, at which the caller's handler is asked in the end
            signal.raise_signal(signal.SIGTERM)
            return noise_loss(*args)
        yield "their own handler", refused(lambda: run(loss=loss, checkpoint=folder/"b.safetensors"), InterruptedError)
        yield "is asked when the step is kept", agree(load_tensors(folder/"b.safetensors")[1]["step"], 1)

        def ignored(*args):
            signal.raise_signal(signal.SIGINT)
            return noise_loss(*args)
        log, _ = run(loss=ignored, total_steps=2, checkpoint=folder/"c.safetensors")
        yield "an ignored signal", agree(log["steps"], 2)
    finally: [signal.signal(k, v) for k, v in zip((signal.SIGTERM, signal.SIGINT), before)]


@contextlib.contextmanager
def usual_ctrl_c()->Iterator: # whoever runs the tests in the background may have told them to ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try: yield
    finally: signal.signal(signal.SIGINT, before)


@case(10)
def the_second_ctrl_c_does_not_wait(folder:Path, n:int)->Iterator:
    reached = []

    def loss(*args):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append(1)
        return noise_loss(*args)
    with usual_ctrl_c():
        yield "twice", refused(lambda: run(loss=loss, checkpoint=folder/"a.safetensors"), KeyboardInterrupt)
    yield "in the middle of the step", agree((reached, (folder/"a.safetensors").exists()), ([], False))
    faults = []

    def in_a_thread():
        try: run(total_steps=1, checkpoint=folder/"b.safetensors")
        except BaseException as e: faults.append(e)
    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    yield "a run in another thread", agree(faults, [])


# What belongs to a run

def other_loss(model, x_0, eps, u, schedule): return noise_loss(model, x_0, eps, u, schedule)*1.


class Plain(nn.Module): # without a configuration
    def __init__(self, p=0.1, gain=1.):
        super().__init__()
        with seeded_draws(0): self.conv, self.drop, self.gain = nn.Conv2d(1, 1, 3, padding=1), nn.Dropout(p), gain

    def forward(self, x, t): return self.drop(self.conv(x))*self.gain


def _frozen(net):
    net.stem.requires_grad_(False)
    return net


def _adamw(params, lr, **how): return torch.optim.AdamW(params, **dict(lr=lr, betas=(0.9, 0.99)) | how)


def others()->list: # what is changed, how, and the name that has to be said
    data, wide = digits(), replace(digits(), images=digits().images[..., :6])
    pixel = replace(data, images=data.images.clone())
    pixel.images[7, 0, 3, 3] ^= 1
    labels = replace(data, labels=data.labels.flip(0))
    table = NoiseSchedule(cosine_schedule().alpha_bar, linear_schedule().spec)
    return [
        ("dropout", dict(net=tiny(dropout=0.2)), "network.config.dropout: 0.1 there, 0.2 here"),
        ("a layer's dropout, set by hand", dict(net=_redropped()), "network.parts"),
        ("norm", dict(net=tiny(norm="rms")), "network.config.norm"),
        ("widths", dict(net=tiny(widths=(64,))), "n_parameters"),
        ("image size of the network", dict(net=tiny(sample_size=16)), "network.config.sample_size"),
        ("frozen layers", dict(net=_frozen(tiny())), "network.frozen"),
        ("image size", dict(data=wide), "image_shape"),
        ("one bit of one pixel", dict(data=pixel), "data_digest"),
        ("labels", dict(data=labels), "data_digest"),
        ("number of images", dict(data=digits(59)), "n_images"),
        ("weight decay", dict(opt_func=partial(_adamw, weight_decay=0.5)), "weight_decay: 0.01 there, 0.5 here"),
        ("betas", dict(opt_func=partial(_adamw, betas=(0.9, 0.999))), "optimizer_settings.betas"),
        ("eps", dict(opt_func=partial(_adamw, eps=1e-5)), "optimizer_settings.eps"),
        ("amsgrad", dict(opt_func=partial(_adamw, amsgrad=True)), "optimizer_settings.amsgrad"),
        ("kind of optimiser", dict(opt_func=torch.optim.SGD), "optimizer"),
        ("a loss of the same name", dict(loss=_impostor()), "losses.loss: "),
        ("lr", dict(lr=2e-3), "lr: 0.001 there, 0.002 here"),
        ("bs", dict(bs=20), "bs: 25 there, 20 here"),
        ("length", dict(n_epochs=5), "total_steps: 12 there, 15 here"),
        ("seed", dict(seed=4), "seed: 3 there, 4 here"),
        ("ema", dict(ema=0.5), "ema"),
        ("flips", dict(flips=True), "flips"),
        ("clip_grad", dict(clip_grad=0.), "clip_grad"),
        ("lr_schedule", dict(lr_schedule="constant"), "lr_schedule"),
        ("schedule", dict(ddpm=cosine_schedule()), "schedule.kind"),
        ("a table under another's name", dict(ddpm=table), "schedule_digest"),
        ("precision", dict(precision="bf16"), "precision"),
        ("init", dict(init="0123456789ab"), "init"),
        ("one more measurement", dict(track=dict(more=noise_loss)), "losses.more"),
    ]


def _redropped():
    net = tiny()
    for part in net.modules():
        if isinstance(part, nn.Dropout): part.p = 0.3
    return net


def _impostor():
    def other_loss(model, x_0, eps, u, schedule): return noise_loss(model, x_0, eps, u, schedule)*2.
    other_loss.__qualname__ = "other_loss"
    return other_loss


@case(6, few=8, many=40)
def another_run_is_refused_by_name(folder:Path, n:int)->Iterator:
    file = folder/"run.safetensors"
    usual = dict(opt_func=_adamw, checkpoint=file, loss=other_loss)
    run(**usual)
    for what, how, name in others()[:n]:
        how = dict(how)
        net = how.pop("net", None)
        yield what, refused(lambda net=net, how=how: run(net, **usual | how), ValueError, saying=name)
    log, _ = run(**usual)
    yield "the same run", agree(log["steps"], 12)


@case(6)
def networks_without_a_configuration(folder:Path, n:int)->Iterator:
    file = folder/"run.safetensors"
    run(Plain(), checkpoint=file)
    for what, net, name in (("dropout", Plain(0.2), "network.parts.drop: \"Dropout(p=0.1"),
                            ("a number of its own", Plain(gain=2.), "gain")):
        yield what, refused(lambda net=net: run(net, checkpoint=file), ValueError, saying=name)
    yield "the same", agree(run(Plain(), checkpoint=file)[0]["steps"], 12)


@case(6)
def a_partial_loss_is_itself_in_another_process(folder:Path, n:int)->Iterator:
    from slowddim.adaptive import complexity_noise_loss
    file = folder/"run.safetensors"
    run(loss=partial(complexity_noise_loss, lam=0.1), checkpoint=file)
    said = load_tensors(file)[1]
    yield "no address in memory", agree("0x" in json.dumps(said), False)
    yield "another lam", refused(lambda: run(loss=partial(complexity_noise_loss, lam=0.2), checkpoint=file), ValueError,
                                 saying="lam=0.1")


@case(6)
def checkpoints_of_earlier_versions_go_on(folder:Path, n:int)->Iterator:
    file, unknown = folder/"run.safetensors", ("data_digest", "image_shape", "n_test")
    _, straight = run()

    def stop(*args):
        signal.raise_signal(signal.SIGINT)
        return noise_loss(*args)
    stop.__name__ = "noise_loss"
    with usual_ctrl_c(), contextlib.suppress(KeyboardInterrupt): run(loss=stop, checkpoint=file)
    tensors, facts = load_tensors(file)
    old = {k: v for k, v in facts.items() if k in ("settings", "step", "seconds", "log", "pending")}
    for name in unknown: del old["settings"][name]
    save_tensors(file, tensors, old)
    yield "another lr", refused(lambda: run(checkpoint=file, lr=1.), ValueError, saying="lr: 0.001 there")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        _, net = run(checkpoint=file)
    missing = [name for name in ("data_digest", "optimizer_settings", "network") if name not in str(said[0].message)]
    yield "says what it does not know", agree(missing, [])
    yield "and goes on", agree((facts["step"], same(net, straight)), (1, True))
    save_tensors(file, tensors, dict(facts, format=99))
    yield "a later version", refused(lambda: run(checkpoint=file), ValueError, saying="later version")


@case(6)
def files_that_are_no_checkpoints(folder:Path, n:int)->Iterator:
    file = folder/"theirs.safetensors"
    save_tensors(file, dict(a=torch.zeros(3)), {})
    for resume in (True, False):
        yield f"weights of another program, resume={resume}", refused(lambda resume=resume: run(
            checkpoint=file, resume=resume), ValueError, saying="is not the checkpoint of a training")
    file.write_text("no weights")
    yield "a text", refused(lambda: run(checkpoint=file), ValueError, saying="theirs.safetensors")


# What a process has that is not the run's

def _inside(context): # weights of a run inside a context, and of one outside
    with context: _, net = run(total_steps=4)
    return net


@contextlib.contextmanager
def _default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try: yield
    finally: torch.set_default_dtype(before)


@case(13)
def what_surrounds_a_run_changes_nothing(folder:Path, n:int)->Iterator:
    _, straight = run(total_steps=4)
    accelerate = dict(ACCELERATE_MIXED_PRECISION="bf16", ACCELERATE_GRADIENT_ACCUMULATION_STEPS="4",
                      ACCELERATE_DYNAMO_BACKEND="eager")
    for what, context in (("settings of accelerate", mock.patch.dict(os.environ, accelerate)),
                          ("autocast", torch.autocast("cpu", torch.bfloat16)), ("no_grad", torch.no_grad())):
        yield what, agree(same(_inside(context), straight), True)
    net = tiny()
    with _default_dtype(torch.float64): run(net, total_steps=4)
    yield "another default dtype", agree(same(net, straight), True)
    net = tiny()
    for p in net.parameters(): p.grad = torch.ones_like(p)
    run(net, total_steps=4)
    yield "old gradients", agree((same(net, straight), all(bool((p.grad == 1).all()) for p in net.parameters())),
                                 (True, True))
    torch.manual_seed(123)
    yield "another state of the global stream", agree(same(run(total_steps=4)[1], straight), True)
    with torch.inference_mode(): net = tiny()
    yield "a network made in inference mode", refused(lambda: run(net), ValueError, saying="inference_mode")


@case(13)
def what_is_the_callers_stays(folder:Path, n:int)->Iterator:
    for mode in (True, False):
        net = tiny().train(mode)
        net.mid[0].eval()
        net.stem.requires_grad_(False)
        strides, modes = [p.stride() for p in net.parameters()], [m.training for m in net.modules()]
        stem, stream = net.stem.weight.clone(), torch.get_rng_state()
        run(net, total_steps=2)
        yield f"layout, training={mode}", agree([p.stride() for p in net.parameters()], strides)
        yield f"modes, training={mode}", agree([m.training for m in net.modules()], modes)
        yield "frozen layers", agree((net.stem.weight.requires_grad, torch.equal(net.stem.weight, stem)), (False, True))
        yield "others learn", agree(all(p.requires_grad for p in net.head.parameters()), True)
        yield "the global stream", agree(torch.equal(torch.get_rng_state(), stream), True)
        stream = torch.get_rng_state()
        build_model(digits(), widths=(32,), patch_size=1, seed=5)
        build_model(digits(), net="source", seed=5)
        loss_on(net, digits(), linear_schedule())
        yield "building and measuring", agree((torch.equal(torch.get_rng_state(), stream),
                                               [m.training for m in net.modules()]), (True, modes))

    class Stop(Exception): pass

    def fails(*args): raise Stop
    net = tiny().eval()
    strides = [p.stride() for p in net.parameters()]
    yield "a loss that fails", refused(lambda: run(net, loss=fails), Stop)
    found = [p.stride() for p in net.parameters()]
    yield "leaves the network as it was", agree((found, net.training), (strides, False))


@case(13)
def two_threads_train_side_by_side(folder:Path, n:int)->Iterator:
    alone, found = [run(seed=s, total_steps=8)[1] for s in (1, 2)], {}

    def work(seed): found[seed] = run(seed=seed, total_steps=8)[1]
    threads = [threading.Thread(target=work, args=(s,)) for s in (1, 2)]
    for t in threads: t.start()
    for t in threads: t.join()
    yield "as alone", agree([same(found[s], net) for s, net in zip((1, 2), alone)], [True, True])


@case(13)
def measurements_do_not_depend_on_the_mode(folder:Path, n:int)->Iterator:
    net = tiny(dropout=0.5)
    for p in net.parameters(): p.data.add_(0.05)
    schedule, how = linear_schedule(), dict(progress=False, precision="fp32")
    x = torch.randn(2, 1, 8, 8)

    def stream(): return torch.Generator().manual_seed(3)

    asked = dict(loss_on=lambda: loss_on(net, digits(), schedule),
                 sample_images=lambda: sample_images(net, schedule, 2, 2, **how).sum().item(),
                 ddim_sample=lambda: ddim_sample(net, x, schedule, 2).sum().item(),
                 ddpm_sample=lambda: ddpm_sample(net, x, linear_schedule(3), generator=stream()).sum().item(),
                 ode_sample=lambda: ode_sample(net, x, schedule, 3, solver="heun").sum().item(),
                 encode=lambda: encode(net, x, schedule, 3).sum().item(),
                 embedded_sample=lambda: embedded_sample(net, x, schedule).x_0.sum().item(),
                 log_likelihood=lambda: log_likelihood(net, x, schedule, 3, generator=stream()).sum().item())
    for what, ask in asked.items():
        net.train()
        torch.manual_seed(0)
        one, two = ask(), ask()
        net.eval()
        yield what, agree((one, two), (ask(),)*2)
    plain = Plain(0.5).train()
    twin = fast_copy(plain, Arithmetic(as_given=True))
    yield "any kind of network", agree((twin.training, plain.training), (False, True))
    half = tiny(dropout=0.5).eval()
    half.mid.train()
    yield "a part in training mode", agree(fast_copy(half, Arithmetic(as_given=True)).mid.training, False)


@case(13)
def averages_in_half_precision_move(folder:Path, n:int)->Iterator:
    net = nn.Linear(4, 4).bfloat16()
    with torch.no_grad():
        for p in net.parameters(): p.zero_()
        average = train_module._start_average(net)
        for p in net.parameters(): p.fill_(1.)
        for _ in range(600): train_module._update_ema_(average, net, 0.999) # in bfloat16 it stands still at 0.25
    yield "towards the weights", agree([round(p.mean().item(), 2) for p in average.parameters()], [0.45, 0.45])
    net = tiny(dropout=0.).bfloat16()
    log, _ = run(net, ema=(0.9, 0.99), n_epochs=1, data="digits", bs=500, n_test=50)
    yield "and are tested as they end", agree((next(net.parameters()).dtype, len(log["average_losses"])),
                                             (torch.bfloat16, 2))


@case(13, few=1, many=2)
def networks_that_cannot_learn(folder:Path, n:int)->Iterator:
    yield "frozen", refused(lambda: run(tiny().requires_grad_(False)), ValueError, saying="requires_grad_(True)")
    yield "without weights", refused(lambda: run(nn.Identity()), ValueError, saying="trainable")
    yield "a function", refused(lambda: run(lambda x, t: x), TypeError, saying="torch.nn.Module")
    if n == 1: return
    compiled = torch.compile(tiny(), backend="eager") # which takes its time, and has no truth value
    log, _ = run(compiled, ema=None, total_steps=2, n_test=20, data="digits")
    yield "a compiled network", agree(log["steps"], 2)
    save_pretrained(compiled, linear_schedule(), folder/"saved", dtype=None)
    saved, _ = load_pretrained(folder/"saved")
    yield "and is saved as what was compiled", agree(same(saved, compiled._orig_mod), True)


# Numbers

@case(14, few=2, many=12)
def images_are_counted(folder:Path, n:int)->Iterator:
    sizes = [(60, 25), (60, 128), (60, 60), (7, 3), (1, 64), (13, 13), (13, 12), (50, 7), (9, 1), (5, 4), (60, 59),
             (2, 3)]
    for n_images, bs in sizes[:n]:
        seen, data = [], digits(n_images)

        def loss(model, x_0, eps, u, schedule, seen=seen):
            seen.append(len(x_0))
            return noise_loss(model, x_0, eps, u, schedule)
        log, _ = run(data=data, bs=bs, total_steps=5, loss=loss)
        told = [images for images, _ in log["losses"]]
        yield f"{n_images} images, bs {bs}", agree((told, log["images_seen"]),
                                                  ([sum(seen[:k + 1]) for k in range(5)], sum(seen)))
        yield "by the formula", agree([images_after(k, n_images, bs) for k in range(6)],
                                      [sum(seen[:k]) for k in range(6)])


# Before the work

@contextlib.contextmanager
def no_work(): # nothing may be opened or trained
    def began(*args, **kwargs): raise AssertionError("the work has begun")
    with mock.patch.object(train_module, "load_data", began):
        with mock.patch.object(train_module, "_run_epochs", began): yield


@case(15)
def bad_values_are_refused_before_the_data_is_opened(folder:Path, n:int)->Iterator:
    (folder/"file").write_text("x")
    kinds = (ValueError, TypeError, OSError)
    for how, saying in (
            (dict(checkpoint=folder/"file"/"c.safetensors"), "is not a folder"), (dict(checkpoint=""), "must name"),
            (dict(checkpoint=folder/("x"*300)), "200 bytes"), (dict(checkpoint=folder), "is a folder"),
            (dict(checkpoint="/proc/nowhere/c.safetensors"), "cannot be written"),
            (dict(save_every=-1), "save_every"), (dict(save_every="often"), "save_every"), (dict(n_test=-1), "n_test"),
            (dict(n_test=1.5), "n_test"), (dict(track=dict(a=3)), "track['a']"), (dict(seed=-1), "seed"),
            (dict(lr=float("nan")), "lr"), (dict(bs=0), "bs"), (dict(bs=True), "bs"), (dict(n_epochs=0), "n_epochs"),
            (dict(total_steps=0), "total_steps"), (dict(flips="no"), "flips"), (dict(ema=1.5), "ema"),
            (dict(ema=iter((0.9,))), "ema"), (dict(lognormal=iter((0, 1))), "lognormal"),
            (dict(lognormal=0.5), "lognormal"), (dict(clip_grad=-1), "clip_grad"),
            (dict(label_dropout=2), "label_dropout"), (dict(precision="half"), "precision"),
            (dict(weighting="half"), "weighting"), (dict(ddpm=3), "schedule")):
        with no_work(): yield f"{how}", refused(lambda how=how: run(**dict(data="digits") | how), *kinds, saying=saying)
    yield "nothing was written", agree(sorted(p.name for p in folder.iterdir()), ["file"])


@case(15)
def values_that_would_not_be_used(folder:Path, n:int)->Iterator:
    yield "labels to hide from a network without", refused(lambda: run(label_dropout=0.5), ValueError,
                                                           saying="label_dropout=0.5")
    yield "two averages and no test images", refused(lambda: run(ema=(0.9, 0.99)), ValueError, saying="test images")
    yield "no images", refused(lambda: run(data=digits(0)), ValueError, saying="no images")
    for how, saying in ((dict(net="source", widths=(32, 32)), "widths"), (dict(net="source", dropout=0.1), "dropout"),
                        (dict(net="source", n_transformer=1), "n_transformer"),
                        (dict(net="source", norm="rms"), "norm"),
                        (dict(schedule="cosine", beta_max=0.01), "beta_max"), (dict(n_steps=0), "n_steps"),
                        (dict(continuous=True, beta_max=0.01), "beta_max"), (dict(seed=-1), "seed"),
                        (dict(continuous=True, prediction="v"), "prediction"), (dict(seed=2**64), "seed"),
                        (dict(continuous=True, schedule="cosine"), "schedule"), (dict(n_steps=10**9), "n_steps"),
                        (dict(net="large"), "net"), (dict(schedule="table"), "schedule")):
        yield f"{how}", refused(lambda how=how: build_model(digits(), **how), ValueError, saying=saying)
    data = load_data("digits")
    found = open_preset("mnist", data=data, classes=["3"], widths=(32,), patch_size=1)[2]
    yield "classes of a set that is given", agree(found.classes, ("3",))
    yield "its size", refused(lambda: open_preset("mnist", data=data, size=16), ValueError, saying="size=16")

    def halves(params, lr): # its second group learns half as fast
        params = list(params)
        return torch.optim.SGD([dict(params=params[:2]), dict(params=params[2:], lr=lr/2)], lr=lr)
    rates = []

    def loss(*args):
        rates.append([group["lr"] for group in made[0].param_groups])
        return noise_loss(*args)
    made = []

    def opt(params, lr):
        made.append(halves(params, lr))
        return made[0]
    run(opt_func=opt, loss=loss, total_steps=2)
    rate = learning_rate(1/2, COMMON["lr"])
    yield "rates of groups", agree(rates[1], [rate, rate/2])


@case(15)
def files_that_could_not_be_written(folder:Path, n:int)->Iterator:
    (folder/"file").write_text("x")
    for path in (folder/"file"/"x", folder, "", "a\0b", folder/("y"*400), "/proc/x", "/dev/null/x", "/proc/1/x/y"):
        yield f"{str(path)[:40]!r}", refused(lambda path=path: check_writable("out", path), OSError, ValueError,
                                             saying="out")
    yield "one that can", agree(check_writable("out", folder/"new"/"x.json"), folder/"new"/"x.json")
    yield "nothing was written", agree(sorted(p.name for p in folder.iterdir()), ["file"])


# Devices

class NoDoubles(torch.Tensor): # like a tensor on a device without float64
    def double(self): raise TypeError("this device has no float64")

    def cpu(self): return self.as_subclass(torch.Tensor)


@case(16)
def steps_by_noise_level_without_float64(folder:Path, n:int)->Iterator:
    u = torch.linspace(0, 1, 5)
    yield "log-normal steps", agree(_lognormal_steps(u.as_subclass(NoDoubles), linear_schedule()).tolist(),
                                    _lognormal_steps(u, linear_schedule()).tolist())


@contextlib.contextmanager
def gpus(count, **env): # as if there were so many
    with mock.patch("torch.cuda.is_available", lambda: count > 0), mock.patch.dict(os.environ, env), \
         mock.patch("torch.cuda.device_count", lambda: count): yield


@case(17)
def each_process_has_its_own_gpu(folder:Path, n:int)->Iterator:
    for rank in range(3):
        with gpus(3, LOCAL_RANK=str(rank)):
            yield f"process {rank} of 3", agree(str(default_device()), f"cuda:{rank}")
            with mock.patch("torch.empty", lambda *a, device: mock.Mock(device=device)):
                yield f"process {rank} of 3, asked for cuda", agree(str(default_device("cuda")), f"cuda:{rank}")
                yield f"process {rank} of 3, asked for cuda:0", agree(str(default_device("cuda:0")), "cuda:0")
    with gpus(1, LOCAL_RANK="2"): yield "each is shown its own alone", agree(str(default_device()), "cuda:0")
    with gpus(2, LOCAL_RANK="2"):
        yield "more processes than GPUs", refused(default_device, ValueError, saying="at most 2")
    with gpus(0, LOCAL_RANK="1"): yield "none", agree(str(default_device()), "cpu")
    net, straight = tiny(), run(total_steps=2)[1]
    touched = mock.Mock(side_effect=AssertionError("touched all devices"))
    with mock.patch("torch.random.fork_rng", touched), mock.patch("torch.manual_seed", touched):
        yield "a run on the CPU leaves the GPUs alone", agree(same(run(net, total_steps=2)[1], straight), True)


@case(11, few=12, many=60)
def sizes_of_networks(folder:Path, n:int)->Iterator:
    bad = [dict(widths=(12, 32)), dict(widths=(32, 40)), dict(widths=()), dict(widths=(0,)), dict(widths=(-32,)),
           dict(widths=(32.,)), dict(widths=(True,)), dict(widths="32"), dict(widths=32), dict(widths=(2**20,)),
           dict(widths=(4096,)*3, n_blocks=100), dict(widths=None), dict(n_blocks=0), dict(n_blocks=-1),
           dict(n_blocks=1.), dict(n_blocks=True), dict(n_blocks=10**9), dict(patch_size=0), dict(patch_size=3),
           dict(patch_size=2.), dict(patch_size=64), dict(sample_size=0), dict(sample_size=-8), dict(sample_size=9),
           dict(sample_size=(8, 9)),
           dict(sample_size=(8, 8, 8)), dict(sample_size="8"), dict(sample_size=True), dict(in_channels=0),
           dict(in_channels=-1), dict(in_channels=1.5), dict(in_channels=True), dict(in_channels=10**9),
           dict(dropout=-0.1), dict(dropout=1.5), dict(dropout="0"), dict(dropout=True), dict(dropout=float("nan")),
           dict(n_transformer=-1), dict(n_transformer=10**9), dict(n_transformer=0.5), dict(n_transformer=True),
           dict(attention=(True,)*5), dict(attention=("no", "no")), dict(attention=(2, 3)), dict(norm="batch"),
           dict(norm=None), dict(upsampling="cubic"), dict(prediction="half"), dict(image_size=99), dict(image_size=0),
           dict(image_size=True), dict(num_class_embeds=0), dict(num_class_embeds=True), dict(num_class_embeds=10**12),
           dict(num_class_embeds=3, class_names="abc"), dict(num_class_embeds=2, class_names=[1, 2]),
           dict(class_names=["a"]), dict(num_class_embeds=2, class_names=["a", "a"])]
    order = random.Random(0).sample(bad, len(bad))
    for how in order[:n]:
        tried = dict(sample_size=8, widths=(32, 32), patch_size=1) | how
        yield f"{how}", refused(lambda tried=tried: UNet(**tried), ValueError, TypeError)
    for how in (dict(sample_size=12), dict(sample_size=0), dict(in_channels=0), dict(in_channels=True)):
        yield f"the source's, {how}", refused(lambda how=how: fashion_unet(**how), ValueError, TypeError)
    import numpy as np
    net = UNet(np.int64(8), widths=tuple(np.array([32, 32])), patch_size=np.int32(1), dropout=np.float64(0.1))
    found = {k: net.config[k] for k in ("widths", "sample_size", "dropout")}
    yield "numbers of NumPy", agree(json.loads(json.dumps(found)), dict(widths=[32, 32], sample_size=8, dropout=0.1))


@case(13)
def a_run_that_is_saved_and_loaded_by_hand(folder:Path, n:int)->Iterator:
    net = nn.Linear(2, 1)
    opt = torch.optim.Adam(net.parameters())
    made = Training(net, [], opt, dict(a=1))
    made.save(folder/"a.safetensors")
    other = Training(nn.Linear(3, 1), [], opt, dict(a=1))
    yield "other shapes", refused(lambda: other.load(folder/"a.safetensors"), ValueError, saying="model.weight")
    yield "recipes", agree(Recipe(ema=(0.9,)).checked()["ema"], [0.9])

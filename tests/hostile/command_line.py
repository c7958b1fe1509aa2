"Command lines that cannot be meant: exit code 2, one line that names the bad value, nothing written, no work begun."
import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from hostile import agree, case, refused
from PIL import Image

from slowddim import cli, train
from slowddim.cli import main
from slowddim.files import save_model_folder
from slowddim.run import tell
from slowddim.unet import UNet

DIGITS = "train --data digits --widths 32 --patch-size 1 --quiet"


def words(line:str)->list[str]: return ["" if w == "''" else w for w in line.split()]


def numbers()->Iterator: # (line, what must be named)
    kinds = {
        "sample": dict(n="0 -1 many 1.5 nan", seed="-1 x 2.5", start="-1 x", steps="0 1001 -3 all 1.5",
                       eta="-1 2 nan x", guidance="-1 nan inf x", scale="0 -1 big 100000", batch_size="0 -4 x"),
        "reconstruct": dict(n="0 -1 x", steps="0 1001 x", refine="0 -1 x", scale="0 x"),
        "interpolate": dict(n="0 -1 x", frames="0 1 x", seed="-1 x", start="-1 x", steps="0 1001 x", scale="0 -2 x"),
        "animate": dict(n="0 -1 x", stops="0 1 x", frames="0 x", fps="0 -1 nan 1000 x", seed="-1 x", start="-1 x",
                        steps="0 1001 x", scale="0 x"),
        DIGITS: dict(bs="0 -1 x 1.5", epochs="0 -1 x", total_steps="0 -1 x", lr="-1 nan inf x", seed="-1 x",
                     ema="2 -0.5 nan x", label_dropout="-1 2 nan x", n_steps="0 -1 x 1000000000", dropout="-1 2 nan x",
                     beta_max="-1 2 nan x", n_blocks="0 -1 x 1000000", n_transformer="-1 x 1000000",
                     patch_size="0 -1 3 x 64", widths="0 -32 33 12 x 1.5 1048576", attention="5 -1 x"),
        "table time": dict(n="0 -1 many 1.5", steps="0 1001 x"), "table eta": dict(etas="-1 3 high"),
        "fid grey.npz": dict(batch_size="x 1.5"),
    }
    for command, options in kinds.items():
        for option, values in options.items():
            for value in values.split():
                said = {"nan": "nan", "inf": "inf"}.get(value, value)
                yield f"{command} --{option.replace('_', '-')} {value}", said
    for size in ("0", "-1", "16"): yield f"{DIGITS} --size {size}", "--size"
    yield "--verbose", "COMMAND"
    yield f"{DIGITS} --lognormal 0 0", "deviation of log sigma"
    yield f"{DIGITS} --lognormal 99 1", "99"
    yield f"{DIGITS} --lognormal 1", "--lognormal"
    yield f"{DIGITS} --lognormal a b", "'a'"


def names()->Iterator:
    kinds = {
        "sample": "model solver spacing precision compile device out", "reconstruct": "guess model device out",
        "interpolate": "solver model device out", "animate": "solver model device out",
        DIGITS: "data schedule prediction weighting optimizer lr_schedule precision device norm upsampling net init "
                "preset classes",
        "table solvers": "solvers spacings precision device", "fid grey.npz": "classifier",
    }
    for command, options in kinds.items():
        for option in options.split():
            for value in ("nobody", "NOBODY.bmp"): yield f"{command} --{option.replace('_', '-')} {value}", value
    for line in ("dream", "table dream", "table", "", "sample --temperature 1", "train --n-heads 4", "sample x.png",
                 "interpolate a.npz b.npz", "table time --scales 3"):
        yield line, line.split()[-1] if line else "COMMAND"
    yield "sample --label nobody", "nobody"
    yield "sample --n", "--n"
    yield "train --widths", "--widths"
    yield "train --preset celeba_hq", "needs --data"


def files()->Iterator: # wrong, missing, in the way; `trouble` makes them
    for command in ("reconstruct", "interpolate", "fid"):
        for name in ("none.npz", "folder.npz", "other.npz", "text.txt", "empty"): yield f"{command} {name}", name
        for name in ("text.npz", "empty.npz", "cut.npz", "pickle.npz", "rgb.npz", "large.npz"):
            yield f"{command} {name}", name
    for name in ("empty", "text.txt", "cut", "foreign", "deep", "noclass", "list"):
        named = name
        for line in (f"sample --model {name}", f"{DIGITS} --init {name}", f"animate --model {name}"): yield line, named
    for taken in ("text.txt/x.png", "dir.png", "/proc/x.png", f"{'y'*300}.png"):
        for command in ("sample", "reconstruct", "interpolate"): yield f"{command} --out {taken}", taken[:20]
    for taken in ("text.txt/x.gif", "dir.gif", "/proc/x.gif"): yield f"animate --out {taken}", taken.split("/")[0]
    for taken in ("text.txt/x.json", "empty", "/proc/x.json"): yield f"table time --out {taken}", taken.split("/")[0]
    for taken in ("text.txt", "text.txt/m", "/proc/m", "photos", ".", "..", "''", "y"*300, "theirs"):
        yield f"{DIGITS} --out {taken}", "" if taken in (".", "..", "''") else taken.split("/")[0][:20]
    for taken in ("text.txt/x.json", "empty", "/proc/x.json", "text.txt", "photos/a.png", "m.checkpoint.safetensors",
                  "m/card.json", "m/config.json", "deep.json"):
        yield f"{DIGITS} --out m --log {taken}", taken.split("/")[0]
    for data in ("empty", "text.txt", "none", "photos.zip"): yield f"train --data {data} --quiet", data
    for preset in ("mnist", "cifar10_64"): yield f"train --preset {preset} --size 64", "--size"


def conflicts()->Iterator:
    for option in ("--widths 32", "--n-blocks 2", "--attention 1", "--upsampling transposed", "--dropout 0.1",
                   "--norm rms", "--n-transformer 1", "--label-dropout 0.1", "--patch-size 2"):
        yield f"train --data digits --net source {option} --quiet", option.split()[0]
    for option in ("--weighting v", "--lognormal 0 1", "--label-dropout 0.1", "--beta-max 0.02", "--schedule cosine",
                   "--prediction v"):
        name = option.split()[0].strip("-").replace("schedule", "own schedule")
        yield f"{DIGITS} --continuous {option}", name
    for schedule in ("cosine", "sigmoid", "karras", "angle"):
        yield f"{DIGITS} --schedule {schedule} --beta-max 0.02", "--beta-max"
    yield "train --preset mnist --beta-max 0.02", "--beta-max"
    yield "train --preset mnist --net source --data digits --quiet", "upsampling"
    yield f"{DIGITS} --unconditional --label-dropout 0.1", "--label-dropout"
    yield f"{DIGITS} --classes 3 --label-dropout 0.2", "--label-dropout 0.2"
    yield f"{DIGITS} --epochs 2 --total-steps 5", "--epochs"
    yield f"{DIGITS} --prediction score", "score"
    yield f"{DIGITS} --size 16", "size"
    yield "train --data photos --ema 0.9 0.99 --size 8 --widths 32 --patch-size 1 --quiet", "--ema 0.9 0.99"
    yield "sample --out x.npz --scale 2", "--scale"
    yield "sample --out x.gif --batch-size 4", "--batch-size"
    yield "sample --solver heun --eta 1", "heun"
    yield "sample --solver ddpm --eta 0.5", "eta"
    yield "sample --label boot", "boot"
    yield "sample --label all", "knows no labels"
    yield "sample --guidance 2", "guidance"
    yield "interpolate --corners --n 2", "--n"
    yield "interpolate --corners rgb.npz", "not both"
    for option in ("--seed 1", "--start 2", "--solver ddim"): yield f"interpolate rgb.npz {option}", option.split()[0]
    yield "reconstruct --refine 0 --guess last", "refine"
    yield "table --commands quick time", "time"
    yield "table consistency --steps 20", "20"
    yield "table time --precision bf16", "fp32"


def trouble(folder:Path)->None: # the files that the lines above name
    for name in ("empty", "photos", "theirs", "cut", "foreign", "deep", "noclass", "list", "folder.npz", "dir.png",
                 "dir.gif", "dir.npz"): (folder/name).mkdir()
    (folder/"text.txt").write_text("a text")
    (folder/"text.npz").write_text("a text")
    (folder/"empty.npz").touch()
    np.savez(folder/"grey.npz", arr_0=np.zeros((4, 28, 28, 1), np.uint8))
    np.savez(folder/"rgb.npz", arr_0=np.zeros((4, 28, 28, 3), np.uint8))
    np.savez(folder/"large.npz", arr_0=np.zeros((4, 64, 64, 1), np.uint8))
    np.savez(folder/"other.npz", images=np.zeros((4, 28, 28, 1), np.uint8))
    np.savez(folder/"pickle.npz", arr_0=np.array([object()], dtype=object))
    (folder/"cut.npz").write_bytes((folder/"rgb.npz").read_bytes()[:200])
    (folder/"photos.zip").write_bytes((folder/"rgb.npz").read_bytes())
    for i in range(2): Image.fromarray(np.full((8, 8), 40*i, np.uint8)).save(folder/"photos"/f"{'ab'[i]}.png")
    (folder/"theirs"/"README.md").write_text("somebody's project")
    (folder/"deep.json").write_text("["*100_000)
    small = UNet(sample_size=8, widths=(32,), patch_size=1)
    config = dict(sample_size=8, widths=[32], patch_size=1, _class_name="UNet")
    for name in ("cut", "foreign", "deep", "noclass", "list"):
        spec = None if name == "foreign" else dict(kind="linear", n_steps=10, beta_min=1e-4, beta_max=0.02)
        save_model_folder(folder/name, small.state_dict(), config, spec, {})
    weights = folder/"cut"/"diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    (folder/"deep"/"config.json").write_text("["*100_000)
    (folder/"noclass"/"config.json").write_text("{}")
    (folder/"list"/"config.json").write_text("[1, 2]")
    for name in ("cut", "foreign", "deep", "noclass", "list"): (folder/name/"card.json").unlink()


def told(line:list[str])->tuple[object, str, str]: # exit code, stdout, stderr
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: code = main(line)
        except SystemExit as e: code = f"argparse {e.code}"
        except BaseException as e: code = f"{type(e).__name__}: {e}"
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def no_work(folder:Path): # in a folder, offline, and nothing may be trained
    def began(*args, **kwargs): raise AssertionError("the work has begun")
    here = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.object(train, "_run_epochs", began), mock.patch.dict(os.environ, HF_HUB_OFFLINE="1"): yield
    finally: os.chdir(here)


def state(folder:Path)->dict: return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def fault_of(line:str, named:str, folder:Path)->str|None:
    before = state(folder)
    code, out, err = told(words(line))
    lines = err.strip().splitlines()
    if code not in (2, "argparse 2"): return f"exit code {code}, said {err[-200:]!r}"
    if "Traceback" in err: return "a traceback"
    if "work has begun" in err: return "the work has begun"
    if code == 2 and len(lines) != 1: return f"{len(lines)} lines: {err[-300:]!r}"
    if named is None: return agree(state(folder), before) # whoever reads the file says what is wrong with it
    if "SLOWDDIM_TRACEBACK" in err: return f"not foreseen: {err!r:.300}"
    if named not in lines[-1]: return f"{named!r} is not named: {lines[-1]!r:.300}"
    if out: return f"stdout {out!r:.100}"
    if state(folder) != before: return "something was written"
    return None


@case(11, few=40, many=400)
def bad_command_lines(folder:Path, n:int)->Iterator:
    trouble(folder)
    lines = [*numbers(), *names(), *files(), *conflicts()]
    chosen = lines if n >= len(lines) else random.Random(0).sample(lines, n)
    with no_work(folder):
        for line, named in chosen: yield line, fault_of(line, named, folder)


@case(15, few=2, many=20)
def good_command_lines(folder:Path, n:int)->Iterator: # each reaches its training
    for k, line in enumerate([
            "--preset mnist --data digits", "--net source", "--continuous", "--schedule cosine --prediction v",
            "--unconditional --epochs 1", "--total-steps 5", "--preset mnist --data digits --total-steps 5 --bs 7",
            "--net source --prediction score", "--net source --continuous", "--beta-max 0.01", "--classes 3 5",
            "--schedule scaled_linear --beta-max 0.01", "--weighting v --lognormal -0.5 1.4", "--ema 0.9 0.99",
            "--widths 32 64 --attention 1", "--optimizer muon --norm rms", "--label-dropout 0.2", "--attention",
            "--out new/folder/m --log new/log.json", "--log empty.json"][:n]):
        own = folder/str(k)
        own.mkdir()
        (own/"empty.json").touch()
        start = "train --data digits --quiet" + ("" if "net source" in line else " --patch-size 1")
        with no_work(own): code, _, err = told(words(f"{start} {line}"))
        yield line, agree((code, "the work has begun" in err), (2, True))


@case(11)
def what_nobody_foresaw(folder:Path, n:int)->Iterator:
    kinds = (KeyError("data"), RecursionError("too deep"), RuntimeError("mat1 and mat2\nshapes"), AssertionError(),
             subprocess.CalledProcessError(1, ["g++"]), IndexError("3"), ZeroDivisionError(), AttributeError("x"),
             ValueError(), OSError())
    for error in kinds:
        with mock.patch.object(cli, "parse_args", side_effect=error): code, _, err = told(["train"])
        fault = agree((code, len(err.splitlines()), err.startswith("slowddim train: ")), (2, 1, True))
        yield repr(error), fault if fault else agree(len(err) > len("slowddim train: ") + 3, True)
    memory = (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
              RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"))
    for error in memory:
        for command, option in (("train", "--bs"), ("sample", "--batch-size"), ("animate", "--n")):
            with mock.patch.object(cli, "parse_args", side_effect=error): code, _, err = told([command])
            yield f"{command}: {error!r:.40}", agree((code, option in err, len(err.splitlines())), (2, True, 1))
    with mock.patch.object(cli, "parse_args", side_effect=KeyError("data")):
        with mock.patch.dict(os.environ, SLOWDDIM_TRACEBACK="1"): code, _, err = told(["train"])
    yield "with its traceback", agree((code, "Traceback" in err), (2, True))


@case(10)
def what_is_said_when_a_command_is_stopped(folder:Path, n:int)->Iterator:
    def stopped(error):
        with mock.patch.object(cli, "parse_args", side_effect=error): return told(["train"])
    code, _, err = stopped(KeyboardInterrupt())
    yield "nothing is promised", agree((code, "goes on" in err, "stopped" in err), (130, False, True))
    kept = KeyboardInterrupt()
    tell(kept, "x.safetensors holds step 3 of 40")
    code, _, err = stopped(kept)
    yield "what is kept is told", agree((code, "step 3 of 40; the same command goes on from here" in err), (130, True))
    yield "SIGTERM", agree(stopped(cli._Terminated())[0], 143)

    def sampled(after): # an .npz whose sampling stops after some batches
        from slowddim import generate
        whole = generate._batches

        def cut(*args, **kwargs):
            for k, batch in enumerate(whole(*args, **kwargs)):
                if k == after: raise KeyboardInterrupt
                yield batch
        with mock.patch.object(generate, "_batches", cut):
            return told(words(f"sample --n 6 --batch-size 2 --steps 1 --quiet --out {folder/'x.npz'}"))
    for after in (0, 2): # nothing is kept of none
        code, _, err = sampled(after)
        yield f"an .npz after {after} batches", agree((code, "goes on from here" in err, (folder/"x.npz").exists()),
                                                      (130, after > 0, False))


@case(11)
def readers_that_have_gone(folder:Path, n:int)->Iterator:
    code = "import sys; from slowddim.cli import main; raise SystemExit(main(sys.argv[1:]))"
    read, write = os.pipe()
    os.close(read)
    for line in ("fid --help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, *line.split()], stdout=write, stderr=subprocess.PIPE,
                              text=True)
        yield f"{line} | head", agree((done.returncode, done.stderr), (0, ""))
    os.close(write)
    with open("/dev/full", "w") as full:
        with mock.patch.object(cli, "parse_args") as parsed, mock.patch("sys.stdout", full), mock.patch("os.dup2"):
            parsed.return_value.run.return_value = "done"
            with contextlib.redirect_stderr(io.StringIO()) as err: code = main(["sample"])
        yield "a full disk", agree((code, "No space left" in err.getvalue()), (2, True))
        with contextlib.suppress(OSError): full.close()


@case(12)
def cards_of_other_programs(folder:Path, n:int)->Iterator:
    for card in (dict(), dict(images_seen="many"), dict(images_seen=[1]), dict(images_seen=True),
                 dict(sampling="well")):
        model = mock.Mock(card=card)
        with mock.patch("slowddim.pretrained.load_pretrained", lambda name, model=model: (model, None)):
            yield f"images of {card}", agree(cli._images_before("x"), None)
        yield f"advice of {card}", agree(cli._advice(model), {})
    for sampling in (None, [], dict(steps="many"), dict(steps=True), dict(temperature=1), dict(solver=3),
                     dict(steps=None)):
        yield f"advice {sampling}", agree(cli._advice(mock.Mock(card=dict(sampling=sampling))), {})
    ours = dict(steps=3, eta=1., spacing="logsnr")
    yield "ours", agree(cli._advice(mock.Mock(card=dict(sampling=ours))), ours)
    net = UNet(sample_size=8, widths=(32,), patch_size=1, num_class_embeds=10, class_names=list("0123456789"))
    save_model_folder(folder/"theirs", net.state_dict(), dict(net.config, _class_name="UNet"), None, {})
    (folder/"theirs"/"scheduler_config.json").write_text(json.dumps(dict(beta_schedule="linear")))
    for text in (None, "{}", '{"images_seen": "a lot", "data": 3, "sampling": "slow"}'):
        card = folder/"theirs"/"card.json"
        card.unlink(missing_ok=True)
        if text is not None: card.write_text(text)
        out = folder/f"m{len(text or '')}"
        code, said, err = told([*words(DIGITS), "--init", str(folder/"theirs"), "--total-steps", "1", "--bs", "20",
                                "--out", str(out)])
        yield f"train --init with the card {text}", agree((code, err), (0, ""))
        if code == 0: yield "and its own card", agree(json.loads((out/"card.json").read_text())["images_seen"], None)
    yield "nothing else", refused(lambda: cli._refuse({"a"}, {"a": "is not"}), ValueError, saying="--a is not")

"Files: two writers, kills, full disks, other people's files and cards, and weights that are not what they were."
import errno
import io
import json
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import slowddim.study
from hostile import agree, case, refused
from slowddim.animate import Film
from slowddim.classifier import Classifier, load_classifier, save_classifier
from slowddim.cli import main
from slowddim.continuous import AnglePredictor
from slowddim.fast import model_fingerprint
from slowddim.files import CARD_FILE, CONFIG_FILE, MODEL_FILE, SCHEDULE_FILE, atomic_path, load_tensors, read_json
from slowddim.files import read_model_folder, save_model_folder, save_tensors, tensors_digest, write_json
from slowddim.generate import sample_images, sample_to_npz
from slowddim.noising import NoisePredictor
from slowddim.pretrained import copy_weights_, load_pretrained, save_pretrained
from slowddim.run import Training
from slowddim.schedule import linear_schedule
from slowddim.study import STUDIES, Setup, Study, fill_table
from slowddim.unet import UNet
from slowddim.viz import save_grid

SCHEDULE = linear_schedule(20)
OPERATIONS = {"open", "write", "writelines", "flush", "close", "replace", "rename", "unlink", "mkdir", "rmdir", "fsync",
              "flock", "posix_fallocate", "truncate", "chmod"}
KILLED = 9


class Scale(torch.nn.Module):
    "A network of one weight, for which nothing has to be computed."
    def __init__(self, seconds:float=0.): # that an evaluation takes
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))
        self._seconds = seconds # not a setting

    def forward(self, x, t):
        time.sleep(self._seconds)
        return x*self.weight.detach()


def tiny(folder:Path)->Path: # of a model
    torch.manual_seed(0)
    save_pretrained(UNet(8, widths=(32,), patch_size=2), SCHEDULE, folder)
    return folder


def forked(work:Callable)->int: # process id
    "Run `work` in a process of its own: exit code 0, 2 for an error that a command reports, 1 for any other."
    sys.stdout.flush()
    pid = os.fork()
    if pid: return pid
    code = 1
    try:
        signal.alarm(120)
        torch.set_num_threads(1)
        work()
        code = 0
    except (ValueError, TypeError, OSError): code = 2
    finally: os._exit(code)


def ended(pid:int)->int: # exit code; negative: the signal
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cut_at(work:Callable, k:int, error:int|None=None)->int: # exit code; `KILLED`: there was a k-th operation
    "Run `work` in a process of its own that ends at its k-th file operation, or fails there with this errno."
    def run():
        count = 0
        def watch(frame, event, function):
            nonlocal count
            if event != "c_call" or function.__name__ not in OPERATIONS: return
            count += 1
            if count != k: return
            if error is None: os._exit(KILLED)
            raise OSError(error, os.strerror(error))
        sys.setprofile(watch)
        try: work()
        finally: sys.setprofile(None)
        if count < k: os._exit(0)
    return ended(forked(run))


def operations(work:Callable)->int: # how many file operations `work` makes
    read, write = os.pipe()
    def run():
        count = [0]
        def watch(frame, event, function): count[0] += event == "c_call" and function.__name__ in OPERATIONS
        sys.setprofile(watch)
        work()
        sys.setprofile(None)
        os.write(write, str(count[0]).encode())
    code = ended(forked(run))
    os.close(write)
    with open(read) as f: text = f.read()
    if code: raise RuntimeError(f"the work itself fails with code {code}")
    return int(text)


def spread(n_all:int, n:int)->list[int]: # n of the numbers 1 to n_all
    n = min(n, n_all)
    return sorted({1 + round(i*(n_all - 1)/max(1, n - 1)) for i in range(n)})


def names(folder:Path)->list[str]: return sorted(p.name for p in folder.iterdir())


def fresh(folder:Path, *name)->Path: # an empty folder
    path = folder/"-".join(map(str, name))
    path.mkdir(parents=True)
    return path


def command(*words)->tuple[int, str]: # exit code, what it says about an error
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said): code = main([str(word) for word in words])
    return code, said.getvalue()


def sample_line(model:Path, out:Path, seed:int=0, n:int=40)->list:
    more = {".png": ("--scale", 8), ".gif": ("--scale", 8), ".npz": ("--batch-size", 4)}
    return ["sample", "--model", model, "--n", n, "--steps", 3, "--seed", seed, "--out", out, *more[out.suffix],
            "--precision", "fp32", "--compile", "no", "--device", "cpu", "--quiet"]


def run_command(*words)->None: # as a process: its exit code becomes an error
    code, said = command(*words)
    if code: raise OSError(said)


def npz(out:Path, seed:int=0, seconds:float=0., n:int=8)->None:
    sample_to_npz(out, Scale(seconds), SCHEDULE, n, 1, shape=(1, 4, 4), seed=seed, batch_size=n//4, progress=False)


def images(seed:int=0, n:int=8)->list:
    how = dict(shape=(1, 4, 4), seed=seed, batch_size=2, progress=False)
    return sample_images(Scale(), SCHEDULE, n, 1, **how).tolist()


def table(file:Path, first:int=0, n:int=4, seconds:float=0.)->None:
    def measure(row):
        time.sleep(seconds)
        return dict(y=row["x"]**2)
    fill_table(file, [dict(x=x) for x in range(first, first + n)], measure, command=f"from {first}", progress=False)


def squares(file:Path)->list: return [(row["x"], row["y"]) for row in read_json(file)["rows"]]


# two writers

@case(7, few=2, many=10)
def two_seeds_into_one_npz(folder, n):
    "Each that says it has written the file has, whole; the other one says that it has not."
    wanted = [images(seed) for seed in (0, 1)]
    for i in range(n):
        out = fresh(folder, i)/"x.npz"
        pids = [forked(partial(npz, out, seed, 0.02)) for seed in (0, 1)]
        codes = [ended(pid) for pid in pids]
        found = np.load(out)["arr_0"].tolist()
        whole = [code == 0 and found == images for code, images in zip(codes, wanted)]
        wrong = None if any(whole) and set(codes) <= {0, 2} else f"codes {codes}, whole: {whole}"
        yield f"try {i}", wrong or agree(names(out.parent), ["x.npz"])


def slow_table(file:Path, first:int)->None: # with time for the other one between reading and writing
    def slow(*args):
        time.sleep(0.005)
        return write_json(*args)
    slowddim.study.write_json = slow # in this process
    table(file, first, 15)


@case(7, few=1, many=5)
def two_fill_one_table(folder, n):
    "No row is lost, and none is there twice, though both want some of them."
    for i in range(n):
        file = fresh(folder, i)/"t.json"
        codes = [ended(pid) for pid in [forked(partial(slow_table, file, first)) for first in (0, 10)]]
        yield f"exit codes {i}", agree(codes, [0, 0])
        yield f"rows {i}", agree(sorted(squares(file)), [(x, x*x) for x in range(25)])
        yield f"commands {i}", agree(sorted(read_json(file)["commands"]), ["from 0", "from 10"])
        yield f"leftovers {i}", agree(names(file.parent), ["t.json"])


@case(7)
def damaged_part(folder, n):
    "What a power cut or anybody has done to half a file makes no image: the run starts again."
    wanted = images()
    damages = dict(data=lambda f: f.seek(130) and f.write(b"\0"*20), line=lambda f: f.write(b"\0"*128),
                   short=lambda f: f.truncate(140), long=lambda f: f.seek(0, 2) and f.write(b"more"))
    for what, damage in damages.items():
        out = fresh(folder, what)/"x.npz"
        pid = forked(partial(npz, out, 0, 0.1))
        time.sleep(0.25)
        os.kill(pid, signal.SIGKILL)
        ended(pid)
        for file in (out.parent/"x.npz.part").iterdir():
            with open(file, "r+b") as f: damage(f)
        npz(out)
        yield what, agree(np.load(out)["arr_0"].tolist(), wanted)


# kills

def kill_at_random(work:Callable, seconds:float, rng:random.Random)->None:
    "Run `work` and kill it at some moment of the time that it takes."
    pid = forked(work)
    time.sleep(rng.uniform(0, seconds))
    with suppress(ProcessLookupError): os.kill(pid, signal.SIGKILL)
    ended(pid)


def timed(work:Callable)->float: # seconds
    tic = time.perf_counter()
    code = ended(forked(work))
    if code: raise RuntimeError(f"the work itself fails with code {code}")
    return time.perf_counter() - tic


@case(7, few=2, many=24)
def killed_sampling(folder, n):
    "Killed again and again and started again, the command makes the same file, bit by bit, and leaves nothing else."
    model, rng = tiny(folder/"model"), random.Random(0)
    whole = fresh(folder, "whole")/"x.npz"
    seconds = timed(partial(run_command, *sample_line(model, whole)))
    for i in range(n):
        out = fresh(folder, i)/"x.npz"
        work = partial(run_command, *sample_line(model, out))
        for _ in range(1 + i % 3): kill_at_random(work, seconds, rng)
        code = ended(forked(work))
        same = out.exists() and out.read_bytes() == whole.read_bytes()
        yield f"kill {i}", agree((code, same, names(out.parent)), (0, True, ["x.npz"]))


@case(7, few=2, many=24)
def killed_table(folder, n):
    "The rows that were finished are kept, none is there twice, and the next run makes the others."
    rng = random.Random(0)
    seconds = timed(partial(table, fresh(folder, "whole")/"t.json", 0, 12, 0.01))
    for i in range(n):
        file = fresh(folder, i)/"t.json"
        kill_at_random(partial(table, file, 0, 12, 0.01), seconds, rng)
        half = squares(file) if file.exists() else []
        table(file, 0, 12)
        yield f"kill {i}", agree((squares(file)[:len(half)], squares(file)), (half, [(x, x*x) for x in range(12)]))
        yield f"leftovers of kill {i}", agree(names(file.parent), ["t.json"])


@case(7, few=2, many=24)
def killed_write(folder, n):
    "A file holds what one writer wrote, whole, and what a killed one leaves is removed."
    rng = random.Random(0)
    def rewrite(file):
        for k in range(60):
            with atomic_path(file) as p: p.write_bytes(bytes([k])*2**17)
    seconds = timed(partial(rewrite, fresh(folder, "whole")/"x.bin"))
    for i in range(n):
        file = fresh(folder, i)/"x.bin"
        kill_at_random(partial(rewrite, file), seconds, rng)
        content = file.read_bytes() if file.exists() else b""
        yield f"kill {i}", agree((len(set(content)) <= 1, len(content) in (0, 2**17)), (True, True))
        with atomic_path(file) as p: p.write_bytes(b"new")
        yield f"leftovers of kill {i}", agree(names(file.parent), ["x.bin"])


# every moment: a cut, and a disk that fails

def write_note(out:Path, version:int)->None: write_json(out/"note.json", dict(version=version))


def write_model(out:Path, version:int)->None:
    weights, config = dict(w=torch.full((3,), float(version))), dict(_class_name="UNet", version=version)
    save_model_folder(out, weights, config, dict(kind="linear", version=version), dict(version=version))


def write_table(out:Path, version:int)->None: table(out/"t.json", 0, 2 + version)


def write_images(out:Path, version:int)->None: npz(out/"x.npz", version)


def read_note(out:Path): return read_json(out/"note.json")["version"] if (out/"note.json").exists() else None


def read_model(out:Path): # None: it does not open
    try: tensors, config, card = read_model_folder(out)
    except FileNotFoundError: return None
    found = {config["version"], card.get("version"), int(tensors["w"][0]), read_json(out/SCHEDULE_FILE)["version"]}
    return found.pop() if len(found) == 1 else found


def read_table(out:Path): # how far the rows go; a table of no rows is the old one
    found = squares(out/"t.json") if (out/"t.json").exists() else []
    return "rows missing" if found != [(x, x*x) for x in range(len(found))] else len(found)


def read_images(out:Path):
    if not (out/"x.npz").exists(): return None
    found = np.load(out/"x.npz")["arr_0"].tolist()
    return next((seed for seed in (1, 2) if found == images(seed)), "mixed")


OUTPUTS = { # name -> how to write a version, how to read which one is there, what may be found after a cut
    "note": (write_note, read_note, {1, 2}, ["note.json"]),
    "model": (write_model, read_model, {1, 2, None}, sorted([CARD_FILE, CONFIG_FILE, MODEL_FILE, SCHEDULE_FILE])),
    "table": (write_table, read_table, {3, 4}, ["t.json"]),
    "images": (write_images, read_images, {1, 2}, ["x.npz"])}


def every_moment(folder:Path, n:int, error:int|None)->Iterator:
    for name, (write, read, either, files) in OUTPUTS.items():
        first = fresh(folder, name)
        write(first, 1)
        for k in spread(operations(partial(write, first, 2)), n):
            out = fresh(folder, name, k)
            write(out, 1)
            code = cut_at(partial(write, out, 2), k, error)
            wrong = None if code in (0, 2 if error else KILLED) else f"exit code {code}"
            if read(out) not in either: wrong = f"found {read(out)}"
            write(out, 2)
            again = read(out), names(out)
            yield f"{name}, operation {k}", wrong or agree(again, (max(filter(None, either)), files))


@case(7, few=5, many=1000)
def cut_at_every_operation(folder, n):
    "A process that ends at any file operation leaves the old or the new; the next one makes the new, and nothing else."
    yield from every_moment(folder, n, None)


@case(9, few=5, many=1000)
def full_at_every_operation(folder, n):
    "So does one whose disk is full at any file operation, and it says so."
    yield from every_moment(folder, n, errno.ENOSPC)


# other people's files

GRID = torch.zeros(1, 1, 4, 4)
FILM = Film([Image.new("L", (4, 4))])
WRITERS = { # ending -> how to write such a file
    ".json": lambda path: write_json(path, dict(a=1)), ".png": lambda path: save_grid(path, GRID),
    ".gif": FILM.save, ".html": FILM.save,
    ".safetensors": lambda path: save_tensors(path, dict(w=torch.ones(2))), ".npz": npz, ".table": table}


def read_pipe(path:Path, write:Callable)->bytes: # what a writer sends through it
    os.mkfifo(path)
    found = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()), daemon=True)
    reader.start()
    write(path)
    reader.join(10)
    return found[0] if found else b""


@case(8)
def links_devices_pipes(folder, n):
    "What is no regular file is written through, and stays what it is."
    for ending, write in WRITERS.items():
        out = fresh(folder, ending)
        paths = [out/f"{name}{ending}" for name in ("plain", "link", "target", "pipe", "null", "folder")]
        plain, link, target, pipe, null, full = paths
        write(plain)
        link.symlink_to(target)
        for _ in range(2): write(link) # the second time it is there
        wrong = None if link.is_symlink() else "the link is gone"
        yield f"a link as {ending}", wrong or agree(link.read_bytes()[:9], plain.read_bytes()[:9])
        sent = read_pipe(pipe, write)
        wrong = None if stat.S_ISFIFO(os.lstat(pipe).st_mode) else "the pipe is gone"
        yield f"a pipe as {ending}", wrong or agree(sent[:9], plain.read_bytes()[:9])
        if subprocess.run(["mknod", null, "c", "1", "3"], capture_output=True).returncode == 0:
            write(null)
            yield f"a device as {ending}", agree(stat.S_ISCHR(os.lstat(null).st_mode), True)
        full.mkdir()
        yield f"a folder as {ending}", refused(partial(write, full), OSError, saying="folder")
        kept = sorted(path.name for path in paths if os.path.lexists(path))
        yield f"leftovers as {ending}", agree(names(out), kept)


def seen(path:Path)->tuple: # what there is under a name
    content = names(path) if path.is_dir() else None
    return path.is_symlink(), path.read_bytes() if path.is_file() else content


@case(8)
def other_folders_called_part(folder, n):
    "A folder, a link or a file NAME.part of somebody else is left alone."
    treasure = fresh(folder, "treasure")
    (treasure/"photo.jpg").write_bytes(b"photo")
    for what in ("folder", "link", "file", "empty", "images.npy", "dangling"):
        out = fresh(folder, what)/"x.npz"
        part = out.with_name("x.npz.part")
        if what == "link": part.symlink_to(treasure)
        elif what == "dangling": part.symlink_to(folder/"nowhere")
        elif what == "file": part.write_bytes(b"notes")
        else: part.mkdir()
        if what in ("folder", "images.npy"): (part/what).write_bytes(b"mine")
        before = [seen(path) for path in (part, treasure)]
        npz(out)
        after = [seen(path) for path in (part, treasure)]
        yield what, agree((after, names(out.parent)), (before, ["x.npz", "x.npz.part"]))
    out = fresh(folder, "joined")/"x.npz" # put into our own folder while a run was cut off
    kill_at_random(partial(npz, out, 0, 0.1), 0.3, random.Random(3))
    out.with_name("x.npz.part").mkdir(exist_ok=True)
    (out.with_name("x.npz.part")/"mine").write_bytes(b"mine")
    npz(out)
    yield "a file put into ours", agree((out.with_name("x.npz.part")/"mine").exists(), True)


@case(8)
def files_in_a_model_folder(folder, n):
    "A README of the user's and the files of other programs survive; ours are written again."
    net = UNet(8, widths=(32,), patch_size=2)
    for content in (b"# my notes\n", b"", b"\xff\xfe"):
        out = fresh(folder, "readme", len(content))
        (out/"README.md").write_bytes(content)
        save_pretrained(net, SCHEDULE, out)
        yield f"README {content!r}", agree((out/"README.md").read_bytes(), content)
    out = fresh(folder, "ours")
    for name in ("one", "two"): save_pretrained(net, SCHEDULE, out, dict(name=name))
    yield "our README", agree((out/"README.md").read_text("utf-8")[:6], "# two\n")
    edited = (out/"README.md").read_text("utf-8").replace("# two", "# my model")
    (out/"README.md").write_text(edited, "utf-8")
    save_pretrained(net, SCHEDULE, out, dict(name="three"))
    yield "our README, edited", agree((out/"README.md").read_text("utf-8"), edited)
    for name, content in ((CONFIG_FILE, '{"port": 8080}'), (CONFIG_FILE, "[1]"), (CONFIG_FILE, "key: value"),
                          (CARD_FILE, '{"name": "ace"}'), (CARD_FILE, "[]"), (SCHEDULE_FILE, '{"monday": 9}')):
        out = fresh(folder, name, len(content))
        (out/name).write_text(content)
        write = partial(save_pretrained, net, SCHEDULE, out)
        yield f"{name} {content}", refused(write, ValueError, OSError, saying=name)
        yield f"{name} {content} stays", agree((names(out), (out/name).read_text()), ([name], content))


@case(8)
def rights_and_home(folder, n):
    "The umask holds, a file that is replaced keeps its rights, and `~` is the user's home."
    for umask, mode in ((0o077, 0o600), (0o027, 0o640), (0o002, 0o664)):
        for ending, write in WRITERS.items():
            path = folder/f"{umask:o}{ending}"
            before = os.umask(umask)
            try: write(path)
            finally: os.umask(before)
            yield f"umask {umask:o}, {ending}", agree(oct(path.stat().st_mode & 0o777), oct(mode))
            path.chmod(0o620)
            write(path)
            yield f"rights of a {ending} that is there", agree(oct(path.stat().st_mode & 0o777), oct(0o620))
    home, here = fresh(folder, "home"), fresh(folder, "here")
    def work():
        os.environ["HOME"] = str(home)
        os.chdir(here)
        for ending, write in WRITERS.items(): write(f"~/new/x{ending}")
        save_pretrained(UNet(8, widths=(32,), patch_size=2), SCHEDULE, "~/model")
        load_pretrained("~/model")
    yield "in the home folder", agree((ended(forked(work)), names(here), len(names(home/"new"))), (0, [], len(WRITERS)))


@case(8)
def leftovers(folder, n):
    "Files of killed runs go, those of living ones and of other programs stay."
    def dies(path):
        with atomic_path(path): os._exit(KILLED)
    for name in ("x.json", "y" + 100*"ü", "z." + 200*"e"): # near the longest names that there are
        ended(forked(partial(dies, folder/name)))
        yield f"left by {name[:9]}", agree(len(names(folder)), 1)
        write_json(folder/"x.json", dict(a=1))
        yield f"swept after {name[:9]}", agree(names(folder), ["x.json"])
        (folder/"x.json").unlink()
    others = [".x.json.0123abcd", ".x.json.tmp", "x.json.part", ".x.json.slowddim", ".x.json.lock", ".~lock.x.json#"]
    for name in others: (folder/name).write_text("mine")
    with atomic_path(folder/"x.json") as p:
        code = ended(forked(lambda: write_json(folder/"x.json", dict(a=1))))
        yield "beside a living writer", agree((code, p.exists()), (0, True))
    yield "others' hidden files", agree(names(folder), sorted([*others, "x.json"]))


# a full disk

@contextmanager
def small_disk(folder:Path, mib:int): # yields the folder, or None where nobody may mount
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], capture_output=True).returncode:
        yield None
        return
    try: yield folder
    finally: subprocess.run(["umount", "-l", folder], check=True)


NOISE = torch.rand(1, 3, 800, 800, generator=torch.Generator().manual_seed(0))
BIG = { # ending -> how to write a file of a megabyte or more
    ".json": lambda path: write_json(path, dict(a="x"*2**21)), ".png": lambda path: save_grid(path, NOISE, scale=1),
    ".safetensors": lambda path: save_tensors(path, dict(w=torch.ones(2**19))),
    ".npz": partial(npz, n=2**16)}


def fails_for_want_of_space(path:Path, write:Callable)->str|None: # what was wrong
    old, others = path.read_bytes(), names(path.parent)
    wrong = refused(partial(write, path), OSError, saying=path.name)
    return wrong or agree((path.read_bytes() == old, names(path.parent)), (True, others))


@case(9)
def full_disk(folder, n):
    "One error that names the file; the old file is as it was, and nothing else is left."
    for ending, write in BIG.items():
        out = fresh(folder, "limit", ending)
        (out/f"x{ending}").write_bytes(b"old")
        def work(path=out/f"x{ending}", write=write): # a limit of the process, which needs no disk
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
            wrong = fails_for_want_of_space(path, write)
            if wrong: raise RuntimeError(wrong)
        yield f"{ending}, largest file", agree(ended(forked(work)), 0)
    model = tiny(folder/"model")
    with small_disk(folder/"disk", 1) as disk:
        if disk is None: return
        for ending, write in BIG.items():
            (disk/f"x{ending}").write_bytes(b"old")
            yield f"{ending}, full disk", fails_for_want_of_space(disk/f"x{ending}", write)
        for ending in (".npz", ".png", ".gif"): _old(disk/f"new{ending}")
        with suppress(OSError), open(disk/"ballast", "wb") as f: f.write(bytes(2**20))
        for name in ("new.npz", "new.png", "new.gif"):
            code, said = command(*sample_line(model, disk/name, n=64))
            wrong = agree((code, said.count("\n"), "No space left" in said), (2, 1, True))
            yield f"sample {name}", wrong or agree((disk/name).read_bytes(), b"old")
        kept = ["ballast", "new.npz", "new.png", "new.gif", *(f"x{ending}" for ending in BIG)]
        yield "leftovers", agree(names(disk), sorted(kept))
    with small_disk(folder/"half", 2) as disk: # room for the images, not for the file made of them; then for both
        (disk/"ballast").write_bytes(bytes(2**19))
        yield "room for half", fails_for_want_of_space(_old(disk/"x.npz"), BIG[".npz"])
        (disk/"ballast").unlink()
        npz(disk/"x.npz", n=2**12)
        yield "room again", agree(len(np.load(disk/"x.npz")["arr_0"]), 2**12)


def _old(path:Path)->Path:
    path.write_bytes(b"old")
    return path


# what is not finite

@case(1)
def weights_that_are_not_finite(folder, n):
    "They are neither written nor opened, and the tensor is named; half precision makes none."
    for bad in (float("nan"), float("inf"), -float("inf")):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64):
            weights = dict(good=torch.ones(2), layer=torch.tensor([1., bad]).to(dtype))
            write = partial(save_tensors, folder/"w.safetensors", weights)
            yield f"save_tensors {bad} {dtype}", refused(write, ValueError, saying="layer")
            yield f"nothing of {bad} {dtype}", agree(names(folder), [])
    net = UNet(8, widths=(32,), patch_size=2)
    for bad in (float("nan"), float("inf")):
        with torch.no_grad(): net.stem.bias[0] = bad
        write = partial(save_pretrained, net, SCHEDULE, folder/"m")
        yield f"save_pretrained {bad}", refused(write, ValueError, saying="stem.bias")
        run = Training(net, [], torch.optim.SGD(net.parameters()), {})
        yield f"checkpoint {bad}", refused(partial(run.save, folder/"c"), ValueError, saying="model.stem.bias")
    yield "nothing is written", agree(names(folder), [])
    for value in (1e5, -7e4, 65504., 3e38):
        with torch.no_grad(): net.stem.bias[0] = value
        save_pretrained(net, SCHEDULE, folder/str(value))
        found = load_pretrained(str(folder/str(value)))[0].stem.bias[0].item()
        yield f"a weight of {value:g} in half precision", agree(found, net.stem.bias[0].item())
        opens = partial(load_pretrained, str(folder/str(value)), dtype=torch.float16)
        if abs(value) > 65504: yield f"{value:g} opened in half", refused(opens, ValueError, saying="stem.bias")
    save_pretrained(net, SCHEDULE, folder/"m")
    for bad in (float("nan"), float("inf")): # as another program may write it
        weights = load_file(folder/"m"/MODEL_FILE)
        weights["stem.bias"] = torch.full_like(weights["stem.bias"], bad)
        out = fresh(folder, bad)
        for name in (CONFIG_FILE, SCHEDULE_FILE): (out/name).write_bytes((folder/"m"/name).read_bytes())
        save_file(weights, out/MODEL_FILE)
        yield f"a folder with {bad}", refused(partial(load_pretrained, str(out)), ValueError, saying="stem.bias")
    whole = dict(i=torch.tensor([2**40]), b=torch.tensor([True, False]), u=torch.tensor([255], dtype=torch.uint8),
                 none=torch.zeros(0), none2=torch.zeros(2, 0, dtype=torch.int32))
    save_model_folder(folder/"whole", whole, {}, None, {}, torch.float16)
    back = read_model_folder(folder/"whole")[0]
    for name, v in whole.items(): yield f"weights of {v.dtype}", agree(torch.equal(back[name].to(v.dtype), v), True)


# what is read

@case(11)
def broken_json(folder, n):
    "An error that names the file, whatever is in it."
    contents = dict(empty=b"", text=b"hello", half=b'{"a": 1', bytes=b"\xff\xfe\x00", deep=b"["*10**5,
                    deeper=b'{"a":'*10**5, list=b"[1]", number=b"7", null=b"null", string=b'"x"', long=b"9"*5000,
                    zeros=bytes(100), bom=b"\xef\xbb\xbf{}")
    tables = dict(other='{"a": 1}', rows='{"commands": [], "rows": {}}', row='{"commands": [], "rows": [1]}')
    for what, content in contents.items():
        path = folder/f"{what}.json"
        path.write_bytes(content)
        yield what, refused(partial(read_json, path), ValueError, saying=path.name)
        if what != "empty":
            yield f"{what} as a table", refused(partial(table, path), ValueError, saying=path.name)
            yield f"{what} stays", agree(path.read_bytes(), content)
    for what, content in tables.items():
        (folder/"other.json").write_text(content)
        yield f"{what} as a table", refused(partial(table, folder/"other.json"), ValueError, saying="other.json")
    (folder/"d").mkdir()
    yield "a folder", refused(partial(read_json, folder/"d"), OSError, saying="d")
    yield "nothing", refused(partial(read_json, folder/"no.json"), OSError, saying="no.json")
    yield "a folder of weights", refused(partial(load_tensors, folder/"d"), OSError, saying="d")
    model = tiny(folder/"model")
    for name in (CONFIG_FILE, CARD_FILE, SCHEDULE_FILE):
        kept = (model/name).read_bytes()
        for what in ("bytes", "deep", "half"):
            (model/name).write_bytes(contents[what])
            yield f"{name} of {what}", refused(partial(load_pretrained, str(model)), ValueError, saying=name)
        (model/name).unlink()
        (model/name).mkdir()
        if name != CARD_FILE:
            yield f"{name} is a folder", refused(partial(load_pretrained, str(model)), OSError, saying=name)
        (model/name).rmdir()
        (model/name).write_bytes(kept)


# cards and names

NAMED = Study("named", dict, "a study of one row", defaults=dict(steps=(5,)))
CARDS = dict(none=None, list=[1], empty={}, other=dict(name="ace"), digest=dict(digest="sha256:0123", bytes=5),
             number=dict(digest=7), data=dict(data=["a"], settings="many", sampling="fast", images_seen="all"))


@case(12)
def cards_of_other_programs(folder, n):
    "A folder without our card opens, and its weights have the name that they have anywhere."
    for what, content in CARDS.items():
        path = tiny(folder/what)
        digest = read_json(path/CARD_FILE)["digest"]
        (path/CARD_FILE).unlink()
        if content is not None: (path/CARD_FILE).write_text(json.dumps(content))
        model, schedule = load_pretrained(str(path))
        yield f"{what}: card", agree(dict(model.card), {})
        yield f"{what}: fingerprint", agree(model_fingerprint(model).split("-")[0], digest)
        for wrapped in (model, NoisePredictor(model, schedule, "v"), AnglePredictor(model, 20)):
            rows = NAMED.plan(Setup(wrapped, schedule))
            yield f"{what}: a table of {type(wrapped).__name__}", agree({row["digest"] for row in rows}, {digest})
        yield f"{what}: --init", agree(copy_weights_(UNet(8, widths=(32,), patch_size=2), str(path)), digest)
        opens = partial(STUDIES["reconstruction"].images, model)
        yield f"{what}: its images", refused(opens, ValueError, saying="card")


@case(6)
def weights_that_have_changed(folder, n):
    "A model is named by what it is, not by what its card said."
    model, schedule = load_pretrained(str(tiny(folder/"model")))
    before, said = model_fingerprint(model), NAMED.plan(Setup(model, schedule))[0]["digest"]
    yield "as it was saved", agree(said, model.card["digest"])
    with torch.no_grad(): model.stem.bias[0] += 1
    yield "the fingerprint of changed weights", agree(model_fingerprint(model) == before, False)
    now = NAMED.plan(Setup(model, schedule))[0]["digest"]
    yield "the digest in a table", agree((now == said, now), (False, tensors_digest(model.state_dict())))
    changes = dict(prediction=lambda m: setattr(m, "prediction", "x_0"), number=lambda m: setattr(m, "scale", 2.),
                   tensor=lambda m: setattr(m, "offset", torch.ones(2)),
                   layer=lambda m: setattr(m.head[1], "inplace", True),
                   kind=lambda m: m.head.__setitem__(1, torch.nn.ReLU()),
                   buffer=lambda m: m.register_buffer("table", torch.zeros(3), persistent=False))
    for what, change in changes.items():
        before = model_fingerprint(model)
        yield f"{what}: the same twice", agree(model_fingerprint(model), before)
        change(model)
        yield f"{what}: changed", agree(model_fingerprint(model) == before, False)
    classifier = Classifier(widths=(8,), image_size=8)
    save_classifier(classifier, folder/"classifier")
    classifier = load_classifier(folder/"classifier")
    yield "a classifier as it was saved", agree(classifier.digest, classifier.card["digest"])
    with torch.no_grad(): classifier.head.bias[0] += 1
    yield "a classifier's changed weights", agree(classifier.digest, tensors_digest(classifier.state_dict()))
    with torch.no_grad(): classifier.head.bias[0] -= 1
    yield "and back", agree(classifier.digest, classifier.card["digest"])

"""From a folder of images to a sheet of samples: ours beside `denoising-diffusion-pytorch` and `smalldiffusion`.

Each library runs in processes of its own, in the shortest way that its documentation has, with a tiny network: what is
typed, what happens with images as people have them, with Ctrl-C and with a NaN, what is on the disk afterwards, and how
fast the same network trains. What the rows say is found by running, not written by hand.

Writes results/own_images.json, after about nine minutes on a busy core.
Run: python benchmarks/own_images.py [--rounds 5] [--quick]
"""
import argparse
import contextlib
import importlib.util
import io
import json
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from slowddim.cli import main as command_line
from slowddim.data import load_data
from slowddim.files import machine_facts, write_json
from slowddim.schedule import linear_schedule
from slowddim.train import train
from slowddim.unet import UNet

ROOT = Path(__file__).parent.parent
OURS, TRAINER, SMALL = LIBRARIES = ("slowddim", "denoising-diffusion-pytorch", "smalldiffusion")
SIZE, BS, N_IMAGES = 16, 20, 300
SHORT = dict(steps=30, every=30, epochs=2) # of a run of the snippets
LONGER = dict(steps=60, every=15, epochs=4) # of one that Ctrl-C meets at its middle

# What a user types: until the images are open, and from there to the sheet. Ours are lines of a shell.
SNIPPETS = {
    OURS: ("", """
slowddim train --data shapes --size 16 --widths 16 32 --bs 20 --total-steps {steps}
slowddim sample --model model --n 16 --steps 10 --out samples.png
"""),
    TRAINER: ("""
from denoising_diffusion_pytorch import GaussianDiffusion, Trainer, Unet

model = Unet(dim=16, dim_mults=(1, 2))
diffusion = GaussianDiffusion(model, image_size=16, sampling_timesteps=10)
trainer = Trainer(diffusion, "shapes", train_batch_size=20, train_num_steps={steps},
                  save_and_sample_every={every}, num_samples=16, calculate_fid=False)
""", """
trainer.train()
"""),
    SMALL: ("""
import smalldiffusion as sd
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize
from torchvision.utils import make_grid, save_image

transform = Compose([Resize(16), CenterCrop(16), sd.img_train_transform])
dataset = sd.MappedDataset(ImageFolder("shapes", transform), lambda x: x[0])
loader = DataLoader(dataset, batch_size=20, shuffle=True)
""", """
model = sd.Scaled(sd.Unet)(16, 3, 3, ch=32, ch_mult=(1, 1), attn_resolutions=())
schedule = sd.ScheduleSigmoid(N=1000)
for ns in sd.training_loop(loader, model, schedule, epochs={epochs}, lr=2e-4): pass
sigmas = sd.ScheduleLogLinear(N=1000, sigma_min=0.01, sigma_max=35).sample_sigmas(10)
*xt, x0 = sd.samples(model, sigmas, gam=2.1, batchsize=16)
save_image(sd.img_normalize(make_grid(x0)), "samples.png")
torch.save(model.state_dict(), "checkpoint.pth")
""")}

# Samples from the weights on the disk, after a run of the snippet; and which sheet that makes
AGAIN = {
    OURS: ("slowddim sample --model model --n 16 --steps 10 --out again.png", "again.png"),
    TRAINER: ("""
from torchvision.utils import save_image
trainer.load(1)
save_image(trainer.ema.ema_model.sample(batch_size=16), "again.png", nrow=4)
""", "again.png"),
    SMALL: ("""
model.load_state_dict(torch.load("checkpoint.pth", weights_only=True))
*xt, x0 = sd.samples(model, sigmas, gam=2.1, batchsize=16)
save_image(sd.img_normalize(make_grid(x0)), "again.png")
""", "again.png")}
WEIGHTS = (".pt", ".pth", ".safetensors")


# -- folders -----------------------------------------------------------------------------------------------------------

def draw_mixed(folder:Path)->None: # two classes
    "Make images of many sizes, stored in six ways."
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        kind, (width, height) = ("round", "square")[i % 2], map(int, rng.integers(16, 40, 2))
        dark, bright = (tuple(map(int, rng.integers(*span, 3))) for span in ((0, 80), (130, 256)))
        image = Image.new("RGB", (width, height), dark)
        pen, box = ImageDraw.Draw(image), (4, 4, width - 5, height - 5)
        if kind == "round": pen.ellipse(box, bright)
        else: pen.rectangle(box, bright)
        file, how = folder/kind/f"{i:03d}.png", {}
        if i % 6 == 1: image = image.convert("L")
        if i % 6 == 2: image = image.convert("P")
        if i % 6 == 3: image.putalpha(image.convert("L").point(lambda v: 255*(v > 100)))
        if i % 6 == 4: file, how = file.with_suffix(".jpg"), dict(exif=turned())
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, **how)


def turned()->Image.Exif: # show it turned clockwise
    "Make the note of a camera that was held upright."
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def fill(folder:Path, image:Image.Image, suffix:str=".png", n:int=120, **how)->None: # the trainer asks for 100 images
    "Save one image many times, in two classes."
    for i in range(n):
        file = folder/"ab"[i % 2]/f"{i:03d}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, **how)


def draw_probes(home:Path)->None: # home/NAME/shapes
    "Make one folder for each way in which images may be unusual."
    half = np.zeros((SIZE, SIZE, 3), np.uint8)
    half[:SIZE//2] = 255
    upright = Image.fromarray(half)
    fill(home/"rotated"/"shapes", upright.transpose(Image.Transpose.ROTATE_90), ".jpg", exif=turned())
    clear = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 0)) # red, which nobody sees
    clear.paste((128, 128, 128, 255), (4, 4, 12, 12))
    fill(home/"transparent"/"shapes", clear)
    grey = np.repeat(np.linspace(0, 65535, SIZE).round()[:, None], SIZE, 1).astype(np.uint16)
    fill(home/"16-bit"/"shapes", Image.fromarray(grey))
    wide = Image.new("RGB", (2*SIZE, SIZE), (255, 0, 0))
    wide.paste((0, 0, 0), (SIZE//2, 0, 3*SIZE//2, SIZE)) # the middle
    fill(home/"wide"/"shapes", wide)
    fill(home/"hidden"/"shapes", upright)
    fill(home/"hidden"/"shapes"/".thumbs", upright, n=20)
    for name in ("cut short", "no image"): draw_mixed(home/name/"shapes")
    whole = io.BytesIO()
    upright.resize((64, 64)).save(whole, "JPEG")
    broken = {"cut short": whole.getvalue()[:-60], "no image": b"half an image"}
    for name, content in broken.items(): (home/name/"shapes"/"square"/"broken.jpg").write_bytes(content)


# -- in a process of its own -------------------------------------------------------------------------------------------

class Refused(Exception): "A command ended with a message."


def shell(lines:str)->None:
    "Run lines of a shell; a message on the way out becomes an error."
    for line in filter(None, lines.splitlines()):
        told = io.StringIO()
        with contextlib.redirect_stderr(told): code = command_line(shlex.split(line)[1:])
        if code: raise Refused(told.getvalue())


def typed(library:str, part:str, names:dict)->None: # `names`: what was defined before, changed
    "Run a part of a snippet."
    if library == OURS: shell(part)
    else: exec(part, names)


def type_all(library:str, length:dict)->dict: # the names it defines
    "Run a snippet."
    names = {}
    for part in SNIPPETS[library]: typed(library, part.format(**length), names)
    return names


def seen(library:str)->tuple[int, torch.Tensor]: # number of images, some of them in [0, 1]
    "Return what a library's network is trained on, for the folder here."
    if library == OURS:
        data = load_data("shapes", size=SIZE)
        return len(data), data.images[:BS]/255
    names = {}
    typed(library, SNIPPETS[library][0].format(**SHORT), names)
    if library == TRAINER: return len(names["trainer"].ds), next(names["trainer"].dl)
    return len(names["dataset"]), (next(iter(names["loader"])) + 1)/2


def say_rotated(n, x)->str:
    light = x[..., :SIZE//2, :].mean() - x[..., SIZE//2:, :].mean()
    return "upright" if light > 0.8 else "silently wrong: on its side"


def say_transparent(n, x)->str:
    corner = x[0, :, 0, 0].tolist()
    if max(corner) - min(corner) > 0.5: return "silently wrong: the hidden colour shows"
    return "on black" if max(corner) < 0.1 else "on a lighter ground"


def say_16_bit(n, x)->str:
    rows, expected = x.mean((0, 1, 3)), torch.linspace(0, 1, SIZE)
    if (rows - expected).abs().max() < 0.02: return "right"
    return f"silently wrong: {(x > 0.99).float().mean():.0%} of it white"


def say_wide(n, x)->str:
    return "the middle is kept" if x[:, 0].mean() < 0.1 else "squeezed"


def say_hidden(n, x)->str:
    return "left out" if n == 120 else f"silently wrong: its {n - 120} images too"


PROBES = {"rotated": ("an image that says it is turned", say_rotated),
          "transparent": ("a transparent image", say_transparent),
          "16-bit": ("16-bit grey", say_16_bit),
          "wide": ("an image twice as wide as high", say_wide),
          "hidden": ("images in a hidden folder", say_hidden)}
BROKEN = {"cut short": "a file that is cut short", "no image": "a file that is no image"}


def say_error(error:Exception, file:str, steps:int)->str:
    "Put in a few words how a run ended, and whether the file was named."
    text = str(error)
    how = "refused" if isinstance(error, Refused) else "crash"
    if "worker process" in text: how += " in a worker"
    when = "in the first epoch" if steps or how != "refused" else "before the first step" # shuffled: any step of it
    named = "named" if file in text else "not named"
    return f"{how} {when}, the file is {named}"


def poison(library:str)->None:
    "Set one weight on the disk to NaN."
    if library == OURS:
        from safetensors import safe_open
        from safetensors.torch import save_file
        file = next(Path("model").glob("*.safetensors"))
        with safe_open(file, "pt") as f: state, facts = {k: f.get_tensor(k) for k in f.keys()}, f.metadata()
        spoil(state)
        save_file(state, file, facts)
        return
    file = Path("results/model-1.pt" if library == TRAINER else "checkpoint.pth")
    content = torch.load(file, weights_only=True)
    spoil(content["ema"] if library == TRAINER else content)
    torch.save(content, file)


def spoil(state:dict)->None: # changed in place
    "Set the first value of the first convolution to NaN; of an average, if there is one."
    averaged = any(k.startswith("ema_model.") for k in state)
    weights = (v for k, v in state.items() if v.ndim == 4 and (not averaged or k.startswith("ema_model.")))
    next(weights)[0, 0, 0, 0] = torch.nan


def say_nan(library:str, names:dict)->str:
    "Sample with a weight that is NaN."
    poison(library)
    code, sheet = AGAIN[library]
    try: typed(library, code, names)
    except Refused as error: return "refused: not the file of its card" if "digest" in str(error) else "refused"
    except Exception as error: return f"crash: {type(error).__name__}"
    colours = Image.open(sheet).convert("RGB").getcolors(10**6)
    return "silently wrong: a blank sheet" if len(colours) <= 2 else "silently wrong: a sheet like others"


def left_behind()->dict: # name -> bytes
    "List the files that a run has made here."
    files = (p for p in sorted(Path().rglob("*")) if p.is_file() and p.parts[0] != "shapes")
    return {str(p): p.stat().st_size for p in files}


def is_pickled(file:str)->bool: # as `torch.save` does it
    "Does opening it run what a pickle says?"
    if not zipfile.is_zipfile(file): return False
    with zipfile.ZipFile(file) as content: return any(name.endswith("data.pkl") for name in content.namelist())


def everything(library:str, home:Path, count)->dict: # the rows' entries
    "Run the snippet, look at its files, spoil them, and give it unusual images."
    os.chdir(home/"clean")
    names = type_all(library, SHORT)
    files = left_behind()
    pickled = [name for name in files if is_pickled(name)]
    found = {"files": files, "pickled": ", ".join(pickled) if pickled else "no"}
    found["NaN"] = say_nan(library, names)
    for name, (_, say) in PROBES.items():
        os.chdir(home/name)
        try: found[name] = say(*seen(library))
        except Exception as error: found[name] = f"crash: {type(error).__name__}"
    for name in BROKEN:
        os.chdir(home/name)
        count[0] = 0
        try:
            type_all(library, SHORT)
            found[name] = "silently left out"
        except Exception as error: found[name] = say_error(error, "broken.jpg", int(count[0]))
    return found


def network_and_schedule(): # for the timing: one network and one schedule for all
    "Build the network that all libraries train."
    torch.manual_seed(0)
    return UNet(SIZE, 3, (8, 32)), linear_schedule()


def train_without_end(library:str)->None:
    "Train the same network with a library's own loop, from the folder here, until somebody ends the process."
    import peers
    (network, schedule), forever = network_and_schedule(), 10**6
    if library == OURS:
        train(network, 1e-4, bs=BS, data=load_data("shapes", size=SIZE), ddpm=schedule, total_steps=forever,
              precision="fp32", progress=False)
    elif library == TRAINER:
        from denoising_diffusion_pytorch import Trainer
        Trainer(peers.gaussian_diffusion(network, schedule, 10), "shapes", train_batch_size=BS, train_num_steps=forever,
                save_and_sample_every=forever, calculate_fid=False).train()
    else:
        names, small = {}, importlib.import_module("smalldiffusion")
        typed(library, SNIPPETS[library][0], names)
        for _ in small.training_loop(names["loader"], peers.small_model(network, schedule),
                                     small.Schedule(schedule.sigma.float()), epochs=forever, lr=1e-4): pass


def child(job:str, library:str, home:Path, notes:Path)->None:
    "Do one job, and count the optimiser's steps where the parent sees them."
    from torch.optim.optimizer import register_optimizer_step_post_hook
    signal.signal(signal.SIGINT, signal.default_int_handler) # also where the parent runs in the background
    torch.set_num_threads(1)
    count = np.memmap(notes/"steps", np.int64, "r+", shape=(1,))

    def counted(*_): count[0] += 1
    register_optimizer_step_post_hook(counted)
    if job == "everything":
        (notes/"found.json").write_text(json.dumps(everything(library, home, count)))
        return
    os.chdir(home/job)
    if job == "endless": train_without_end(library)
    else: type_all(library, LONGER)


# -- the processes -----------------------------------------------------------------------------------------------------

class Process:
    "A library at work, in a group of processes of its own, with a count of its steps."
    def __init__(self, job:str, library:str, home:Path):
        self.notes = Path(tempfile.mkdtemp(dir=home.parent))
        np.zeros(1, np.int64).tofile(self.notes/"steps")
        self.count, self.log = np.memmap(self.notes/"steps", np.int64, "r", shape=(1,)), self.notes/"log.txt"
        here = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        env = os.environ | dict(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONPATH=here)
        if job != "interrupted": env["TQDM_DISABLE"] = "1"
        words = [sys.executable, __file__, "--child", job, library, str(home), str(self.notes)]
        with open(self.log, "wb") as log:
            self.run = subprocess.Popen(words, stdout=log, stderr=log, env=env, start_new_session=True)

    @property
    def steps(self)->int: return int(self.count[0])

    def send(self, what:int)->None: os.killpg(self.run.pid, what)

    def wait_for(self, steps:int, seconds:float=240.)->None:
        "Wait until so many steps are done."
        end = time.monotonic() + seconds
        while self.steps < steps:
            if self.run.poll() is not None or time.monotonic() > end: raise RuntimeError(self.log.read_text()[-2000:])
            time.sleep(0.002)

    def end(self)->None:
        "End what we have started."
        with contextlib.suppress(ProcessLookupError): self.send(signal.SIGKILL)
        self.run.wait()


def look(library:str, home:Path)->dict:
    "Let a library do everything that needs one process."
    process, tic = Process("everything", library, home), time.perf_counter()
    try:
        if process.run.wait(400): raise RuntimeError(process.log.read_text()[-3000:])
        print(f"  {library}: {time.perf_counter() - tic:.0f} s", flush=True)
        return json.loads((process.notes/"found.json").read_text())
    finally: process.end()


def interrupt(library:str, home:Path)->tuple[str, str]: # what is kept, and what the same lines do then
    "Press Ctrl-C in the middle of a run, and type the same again."
    first = Process("interrupted", library, home)
    try:
        first.wait_for(LONGER["steps"]//2)
        first.send(signal.SIGINT)
        first.run.wait(60)
    except subprocess.TimeoutExpired: return "does not end", ""
    finally: first.end()
    kept = [p for p in (home/"interrupted").rglob("*") if p.suffix in WEIGHTS]
    second, rest = Process("interrupted", library, home), LONGER["steps"] - first.steps + 2
    try:
        while second.run.poll() is None and second.steps <= rest: time.sleep(0.1)
        on = second.steps <= rest
        if on and second.run.returncode: raise RuntimeError(second.log.read_text()[-2000:])
    finally: second.end()
    return ("weights are kept" if kept else "nothing is kept"), ("goes on" if on else "starts anew")


def race(homes:dict, rounds:int)->dict: # library -> images a second, one a round
    "Let the training loops take turns of one epoch: all are started, and all but one are stopped."
    racers, epoch, found = {}, N_IMAGES//BS, {name: [] for name in homes}
    try:
        for name, home in homes.items():
            racers[name] = Process("endless", name, home)
            racers[name].wait_for(epoch + 1) # warm
            racers[name].send(signal.SIGSTOP)
        for i in range(rounds):
            names = list(racers)
            for name in names[i % 3:] + names[:i % 3]:
                racer = racers[name]
                racer.send(signal.SIGCONT)
                racer.wait_for(racer.steps + 1)
                before, tic = racer.steps, time.perf_counter()
                racer.wait_for(before + epoch)
                done, took = racer.steps - before, time.perf_counter() - tic
                racer.send(signal.SIGSTOP)
                found[name].append(BS*done/took)
    finally:
        for racer in racers.values(): racer.end()
    return found


# -- the rows ----------------------------------------------------------------------------------------------------------

def count_lines(library:str)->str:
    "Count what is typed; no line is longer than 88 characters."
    lines = [line for line in "".join(SNIPPETS[library]).splitlines() if line.strip()]
    if max(map(len, lines)) > 88: raise ValueError(f"too long a line of {library}")
    return f"{len(lines)} of {'a shell' if library == OURS else 'Python'}"


def spread(values:list)->dict: # median, and the ends without an eighth at each side
    "Summarise one value a round."
    values = sorted(values)
    cut = len(values)//8
    return dict(value=round(statistics.median(values), 3),
                interval=[round(values[cut], 3), round(values[-1 - cut], 3)])


def measure(home:Path, rounds:int)->list[dict]: # a row for each question, an entry for each library
    "Ask all libraries everything."
    homes = {name: home/name/"home" for name in LIBRARIES}
    draw_probes(homes[OURS])
    for name in ("clean", "interrupted", "endless"): draw_mixed(homes[OURS]/name/"shapes")
    for name in LIBRARIES[1:]: shutil.copytree(homes[OURS], homes[name])
    print("what they do ...", flush=True)
    found = {name: look(name, place) for name, place in homes.items()}
    print("Ctrl-C ...", flush=True)
    ctrl_c = {name: interrupt(name, place) for name, place in homes.items()}
    print("training in turns ...", flush=True)
    speeds = race(homes, rounds)

    def row(what, entry): return {"what": what} | {name: entry(name) for name in LIBRARIES}
    rows = [row("lines typed, from the folder to a sheet of samples", count_lines)]
    rows += [row(what, lambda name, k=k: found[name][k]) for k, what in BROKEN.items()]
    rows += [row(what, lambda name, k=k: found[name][k]) for k, (what, _) in PROBES.items()]
    rows += [row("Ctrl-C in the middle of the training", lambda name: ctrl_c[name][0]),
             row("the same lines after it", lambda name: ctrl_c[name][1]),
             row("a weight on the disk is NaN", lambda name: found[name]["NaN"]),
             row("files afterwards, bytes", lambda name: found[name]["files"]),
             row("pickled", lambda name: found[name]["pickled"]),
             row("training the same network, images a second", lambda name: spread(speeds[name]))]
    ratios = {name: [a/b for a, b in zip(speeds[name], speeds[OURS])] for name in LIBRARIES}
    return [*rows, row("that, relative to slowddim", lambda name: spread(ratios[name]))]


def facts()->dict:
    "Describe the machine, with the cores that this process may use."
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return machine_facts(torch.device("cpu")) | dict(cores=cores)


def main()->None:
    "Measure, print and write."
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5, help="turns of each training loop, at least 5")
    p.add_argument("--quick", action="store_true", help="2 turns, nothing written")
    p.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = p.parse_args()
    if args.child:
        job, library, home, notes = args.child
        return child(job, library, Path(home), Path(notes))
    if args.rounds < 5: p.error("--rounds must be at least 5")
    absent = [name for name in LIBRARIES[1:] if importlib.util.find_spec(name.replace("-", "_")) is None]
    if absent: p.error(f"{', '.join(absent)} cannot be imported: pip install -e '.[bench]'")
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)) # so that what was started is ended
    tic = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), 2 if args.quick else args.rounds)
    for row in rows: print(row["what"], *(f"  {name}: {row[name]}" for name in LIBRARIES), sep="\n")
    print(f"{time.perf_counter() - tic:.0f} s")
    if args.quick: return
    network, _ = network_and_schedule()
    path = ROOT/"results"/"own_images.json"
    write_json(path, dict(command="python benchmarks/own_images.py", machine=facts(),
                          versions={name: version(name) for name in LIBRARIES}, batch_size=BS, image=[3, SIZE, SIZE],
                          n_images=N_IMAGES, parameters=sum(p.numel() for p in network.parameters()),
                          snippets={name: "".join(parts).strip() for name, parts in SNIPPETS.items()}, rows=rows))
    print(path.relative_to(ROOT))


if __name__ == "__main__": main()

"Image files, folders and `.npz` files of every kind, read to a value that is known in closed form, or refused by name."
import io
import logging
import os
import signal
import socket
import struct
import zipfile
import zlib
from contextlib import contextmanager, redirect_stderr

import numpy as np
import torch
from PIL import Image

from slowddim import data
from slowddim.cli import main, run_fid
from slowddim.commands import check_out, run_animate, run_interpolate, run_reconstruct
from slowddim.data import as_images, load_data, load_folder, load_images, select_classes
from slowddim.files import CARD_FILE, read_json, write_json
from slowddim.pretrained import save_pretrained
from slowddim.schedule import linear_schedule
from slowddim.unet import UNet

from . import agree, case, refused

HEIGHT, WIDTH = 6, 10
Y, X = np.mgrid[:HEIGHT, :WIDTH]
GREY = ((X*20 + Y*11) % 256).astype(np.uint8)
COLOUR = np.stack([GREY, 255 - GREY, GREY.astype(int)*7 % 256], -1).astype(np.uint8)
ALPHA = ((X*85) % 256).astype(np.uint8)
DEEP = (GREY.astype(int)*257 + X*9 - 40).clip(0, 65535)
ORIENTED = {1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
            6: np.rot90, 7: lambda x: np.rot90(x.swapaxes(0, 1), 2), 8: lambda x: np.rot90(x, -1)} # upright -> stored


def every(things, n): # `n` of them, evenly
    things = list(things)
    return [things[i*len(things)//min(n, len(things))] for i in range(min(n, len(things)))]


@contextmanager
def within(seconds): # what hangs is an error
    def stop(*_): raise TimeoutError(f"still busy after {seconds} s")
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def fresh(folder, name):
    (folder/name).mkdir(parents=True, exist_ok=True)
    return folder/name


# --- a writer of PNG files for what Pillow does not write

def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(bits, colour, rows, *between): # rows of packed bytes; chunks before the pixels
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, colour, 0, 0, 0)
    wide = rows.reshape(rows.shape[0], -1)
    if bits == 16: packed = wide.astype(">u2").tobytes()
    else:
        per = 8//bits
        padded = np.pad(wide, ((0, 0), (0, -wide.shape[1] % per))).reshape(len(wide), -1, per).astype(int)
        packed = sum(padded[..., k] << bits*(per - 1 - k) for k in range(per)).astype(np.uint8).tobytes()
    size = len(packed)//len(rows)
    lines = b"".join(b"\0" + packed[i*size:(i + 1)*size] for i in range(len(rows)))
    parts = [chunk(b"IHDR", header), *between, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(image, kind, **how):
    file = io.BytesIO()
    image.save(file, format=kind, **how)
    return file.getvalue()


# --- what is stored, and what it means

def laid(pixels, alpha): # on black
    alpha = alpha if pixels.ndim == 2 else alpha[..., None]
    return np.rint(pixels.astype(float)*alpha/255).astype(np.uint8)


def hide(pixels, where): return np.where(where if pixels.ndim == 2 else where[..., None], 0, pixels)


def palette(): # an image whose numbers are not its colours
    image = Image.fromarray((GREY//16).astype(np.uint8))
    image.putpalette(bytes(v for k in range(16) for v in (255 - k*16, k*5, k*16)))
    return image


NUMBERS = GREY//16
PALETTE = np.stack([255 - NUMBERS*16, NUMBERS*5, NUMBERS*16], -1).astype(np.uint8)
CHECKS = ((X + Y) % 2*255).astype(np.uint8)
CMYK = np.stack([GREY, 255 - GREY, GREY//2, (Y*20).astype(np.uint8)], -1)
INK = np.rint((255. - CMYK[..., :3])*(255. - CMYK[..., 3:])/255)


def stored(turn): # name -> (format, exact to, value upright, function that writes the turned one with options)
    "Every kind of file, its pixels turned by `turn` as they are stored."
    def t(x): return np.ascontiguousarray(turn(x))
    def of(x, mode=None): return Image.fromarray(t(x)) if mode is None else Image.fromarray(t(x)).convert(mode)
    def turned(image): # any mode
        new = Image.fromarray(t(np.asarray(image)))
        if image.mode == "P": new.putpalette(image.getpalette())
        return new
    grey_alpha = Image.merge("LA", (of(GREY), of(ALPHA)))
    rgba = Image.fromarray(t(np.concatenate([COLOUR, ALPHA[..., None]], -1)))
    grey = int(GREY[2, 3])
    one = tuple(int(v) for v in COLOUR[2, 3])
    lossless = dict(lossless=True, exact=True)
    fine = dict(quality=100, subsampling=0)
    listed = {
        "1": ("PNG BMP", 0, CHECKS, of(CHECKS, "1"), {}),
        "1 tRNS": ("PNG", 0, CHECKS*0, of(CHECKS, "1"), dict(transparency=1)),
        "L": ("PNG BMP", 0, GREY, of(GREY), {}),
        "L lossy": ("JPEG", 3, GREY, of(GREY), dict(quality=100)),
        "L as WebP": ("WEBP", 0, np.repeat(GREY[..., None], 3, 2), of(GREY), lossless),
        "L tRNS": ("PNG", 0, hide(GREY, GREY == grey), of(GREY), dict(transparency=grey)),
        "LA": ("PNG", 0, laid(GREY, ALPHA), grey_alpha, {}),
        "P": ("PNG BMP", 0, PALETTE, turned(palette()), {}),
        "P tRNS": ("PNG", 0, hide(PALETTE, NUMBERS == 3), turned(palette()), dict(transparency=3)),
        "P many tRNS": ("PNG", 0, laid(PALETTE, (NUMBERS*16).astype(np.uint8)), turned(palette()),
                        dict(transparency=bytes(range(0, 256, 16)))),
        "RGB": ("PNG BMP", 0, COLOUR, of(COLOUR), {}),
        "RGB as WebP": ("WEBP", 0, COLOUR, of(COLOUR), lossless),
        "RGB lossy": ("JPEG", 40, COLOUR, of(COLOUR), fine),
        "RGB tRNS": ("PNG", 0, hide(COLOUR, (COLOUR == one).all(-1)), of(COLOUR), dict(transparency=one)),
        "RGBA": ("PNG", 0, laid(COLOUR, ALPHA), rgba, {}),
        "RGBA as WebP": ("WEBP", 0, laid(COLOUR, ALPHA), rgba, lossless),
        "I;16": ("PNG", 0, (DEEP + 128)//257, of(DEEP.astype(np.uint16)), {}),
        "I;16 tRNS": ("PNG", 0, hide((DEEP + 128)//257, DEEP == DEEP[2, 3]), of(DEEP.astype(np.uint16)),
                      dict(transparency=int(DEEP[2, 3]))),
        "CMYK": ("JPEG", 40, INK, Image.frombytes("CMYK", t(GREY).shape[::-1], t(CMYK).tobytes()), fine),
        "YCbCr": ("JPEG", 40, COLOUR, of(COLOUR, "YCbCr"), fine),
    }
    for name, (kinds, exact, value, image, how) in listed.items():
        for kind in kinds.split():
            def save(k=kind, i=image, h=how, **more): return saved(i, k, **h, **more)
            yield name, kind, exact, value, save
    few, deep = (GREY >> 6), COLOUR.astype(int)*256 + 77
    grey_key, deep_alpha = struct.pack(">H", int(few[2, 3])), ALPHA.astype(int)*257
    sixteen = (GREY >> 4).astype(np.uint8)
    by_hand = { # the orientation goes into a chunk before the pixels
        "grey of 2 bits": (few*85, 2, 0, few, []),
        "grey of 2 bits, tRNS": (hide(few*85, few == few[2, 3]), 2, 0, few, [chunk(b"tRNS", grey_key)]),
        "grey of 4 bits, tRNS": (hide(sixteen*17, sixteen == 5), 4, 0, sixteen, [chunk(b"tRNS", b"\0\5")]),
        "RGB of 16 bits": (COLOUR, 16, 2, deep, []),
        "LA of 16 bits": (laid(GREY, ALPHA), 16, 4, np.stack([GREY.astype(int)*257, deep_alpha], -1), []),
        "RGBA of 16 bits": (laid(COLOUR, ALPHA), 16, 6, np.concatenate([deep, deep_alpha[..., None]], -1), []),
    }
    for name, (value, bits, colour, rows, chunks) in by_hand.items():
        def write(exif=None, b=bits, c=colour, r=rows, between=tuple(chunks)):
            note = [] if exif is None else [chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))]
            return png(b, c, t(r), *between, *note)
        yield name, "PNG", 0, value, write


def luma(pixels): # ITU-R 601, as Pillow rounds it
    if pixels.ndim == 2: return pixels.astype(int)
    return (pixels.astype(int) @ np.array([19595, 38470, 7471]) + 0x8000) >> 16


@case(2, few=40, many=2000)
def every_kind_of_file(folder, n):
    "Modes x formats x orientations x channels, each in a folder of its own."
    tried = []
    for orientation, turn in ORIENTED.items():
        for name, kind, exact, value, write in stored(turn):
            if orientation > 1 and kind == "BMP": continue
            how = {}
            if orientation > 1:
                how["exif"] = Image.Exif()
                how["exif"][0x0112] = orientation
            what = f"{name} in {kind}, orientation {orientation}"
            tried += [(what, kind, exact, value, write, how, channels) for channels in (None, 1, 3)]
    for i, (what, kind, exact, value, write, how, channels) in enumerate(every(tried, n)):
        what = f"{what}, channels {channels}"
        own = fresh(folder, f"{i}/x")
        (own/f"x.{kind.lower()}").write_bytes(write(**how))
        try: found = load_folder(own, channels=channels).images[0].permute(1, 2, 0).numpy().astype(int)
        except Exception as e:
            yield what, f"{type(e).__name__}: {e}"
            continue
        value = np.asarray(value).astype(int)
        if channels == 1: value = luma(value)
        if value.ndim == 2: value = value[..., None]
        if channels == 3 and value.shape[2] == 1: value = value.repeat(3, 2)
        if found.shape != value.shape: yield what, f"shape {found.shape} instead of {value.shape}"
        else: yield what, agree(bool(np.abs(found - value).max() <= exact), True)


@case(2, few=12, many=12)
def other_modes(folder, n):
    "Images that are in memory already: what `datasets` hands over, every spelling of 16 bits."
    wide = (DEEP + 128)//257
    for mode, order in {"I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2"}.items():
        image = Image.frombytes(mode, (WIDTH, HEIGHT), DEEP.astype(order).tobytes())
        yield mode, agree(np.array_equal(data._stack([image])[0, 0], wide), True)
    image = Image.fromarray(DEEP.astype(np.int32))
    image.format = "PNG" # as older versions of Pillow open 16 bits
    yield "I", agree(np.array_equal(data._stack([image])[0, 0], wide), True)
    image = palette()
    image.putalpha(Image.fromarray(ALPHA))
    yield image.mode, agree(np.array_equal(data._stack([image])[0].permute(1, 2, 0), laid(PALETTE, ALPHA)), True)
    for mode in ("F", "I", "HSV", "LAB"):
        image = Image.new(mode, (4, 4))
        yield mode, refused(lambda i=image: data._stack([i]), ValueError, saying=f"mode {mode}")
    for mode in ("1", "YCbCr", "CMYK"):
        image = Image.fromarray(COLOUR).convert(mode)
        near = np.asarray(image.convert("L" if mode == "1" else "RGB"))
        yield mode, agree(np.array_equal(data._stack([image])[0].permute(1, 2, 0).squeeze(-1), near), True)


def bad_files(): # name -> bytes
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    frames = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(3)]
    both = dict(save_all=True, append_images=frames[1:])
    key = chunk(b"tRNS", struct.pack(">HHH", 300, 300, 300))
    yield "empty.png", b""
    yield "page.jpg", b"<html><body>404 Not Found</body></html>"
    yield "postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    yield "drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    yield "document.png", b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"
    yield "floats.png", saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF")
    yield "scan.png", saved(noise, "TIFF")
    yield "still.png", saved(noise, "GIF")
    yield "animated.png", saved(frames[0], "PNG", **both)
    yield "animated.webp", saved(frames[0], "WEBP", **both)
    yield "16 bits and a key.png", png(16, 2, np.full((8, 8, 3), 300), key)
    bomb = png(8, 0, np.zeros((1, 1), np.uint8))
    for size in (9500, 60_000, 2**31 - 1):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0))
        yield f"bomb of {size}.png", bomb[:8] + header + bomb[33:]
    for kind in ("PNG", "JPEG", "WEBP", "BMP"):
        whole = saved(noise, kind)
        for share in (0.2, 0.5, 0.9): yield f"{share} of a {kind}.png", whole[:int(len(whole)*share)]
    broken = bytearray(saved(noise, "PNG"))
    broken[len(broken)//2] ^= 16
    yield "one bit flipped.png", bytes(broken)


@case(2, few=40, many=40)
def files_refused_by_name(folder, n):
    for i, (name, content) in enumerate(every(bad_files(), n)):
        own = fresh(folder, str(i))
        (own/name).write_bytes(content)
        yield name, refused(lambda f=own: load_folder(f), ValueError, saying=name)


@case(2, few=5)
def several_broken_files(folder, n):
    "All at once, ten by name; skipped where that is asked for."
    own = fresh(folder, "own")
    for i in range(4): Image.fromarray(COLOUR).save(own/f"{i}.png")
    for i in range(13): (own/f"bad {i:02}.jpg").write_bytes(b"\xff\xd8\xff")
    yield "thirteen of seventeen", refused(lambda: load_folder(own), ValueError, saying="13 of 17 images")
    yield "ten are named", refused(lambda: load_folder(own), ValueError, saying="bad 09.jpg")
    yield "three are counted", refused(lambda: load_folder(own), ValueError, saying="and 3 more")
    told, found = heard(lambda: load_folder(own, skip_broken=True))
    yield "skipped", agree((len(found), np.array_equal(found.images[3].permute(1, 2, 0), COLOUR)), (4, True))
    yield "skipped, and told", None if "skipped 13" in told else f"told {told!r}"
    for i in range(4): (own/f"{i}.png").unlink()
    yield "nothing left", refused(lambda: load_folder(own, skip_broken=True), ValueError, saying="13 of 13")


def heard(f): # what the log says with level WARNING, and what `f` returns
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.WARNING)
    logging.getLogger("slowddim").addHandler(handler)
    try: value = f()
    finally: logging.getLogger("slowddim").removeHandler(handler)
    return said.getvalue(), value


@case(2, few=6)
def size_and_orientation(folder, n):
    "Sizes are compared upright; scaling is torchvision's."
    from torchvision.transforms import v2
    own, exif = fresh(folder, "own"), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(own/"a.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(COLOUR))).save(own/"b.jpg", exif=exif, quality=100, subsampling=0)
    yield "one shape", agree(tuple(load_folder(own).images.shape), (2, 3, HEIGHT, WIDTH))
    big = Image.fromarray(np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8))
    for i, size in enumerate((5, 16, 36, 37, 64)):
        own = fresh(folder, str(i))
        for name, image in (("a", big), ("b", big.transpose(Image.Transpose.ROTATE_90))): image.save(own/f"{name}.png")
        fit = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
        expected = [np.asarray(fit(i)) for i in (big, big.transpose(Image.Transpose.ROTATE_90))]
        yield f"size {size}", agree(np.array_equal(load_folder(own, size).images.permute(0, 2, 3, 1), expected), True)
    own = fresh(folder, "long")
    Image.new("L", (65_000, 1)).save(own/"line.png")
    yield "a line", refused(lambda: load_folder(own, 256), ValueError, saying="line.png")


def image(path, value=0): # a small one
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def linked(path, to):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(to)


def folders(root): # what lies there -> (classes, images of each) or the text of the refusal
    a, b = root/"cat"/"1.png", root/"dog"/"2.png"
    def plain(): image(a), image(b)
    def more(*paths): return lambda: [image(p) for p in (a, b, *(root/p for p in paths))]
    def with_links(links): return lambda: (plain(), [linked(root/name, to) for name, to in links.items()])
    two = {"cat": 1, "dog": 1}
    yield "plain", plain, two
    yield "hidden folders", more(".thumbnails/3.png", "cat/.cache/4.png", "__MACOSX/cat/5.png", "dog/._2.png"), two
    def system_files(): return plain(), [(root/n).write_bytes(b"x") for n in ("Thumbs.db", "desktop.ini")]
    yield "leftovers of systems", system_files, two
    yield "a class that is a link", with_links({"bird": "../elsewhere"}), {**two, "bird": 1}
    yield "a class linked twice", with_links({"again": "cat"}), two
    yield "a file linked twice", with_links({"dog/x.png": "../cat/1.png", "dog/y.png": "2.png"}), two
    yield "a link to itself", with_links({"me": "me"}), two
    yield "a loop", with_links({"cat/up": ".."}), two
    yield "a loop through the parent", with_links({"cat/top": "../.."}), two
    yield "two links at each other", with_links({"cat/d": "../dog", "dog/c": "../cat"}), two
    yield "a dangling link", with_links({"cat/gone.png": "nowhere.png"}), two
    yield "a pipe", lambda: (plain(), os.mkfifo(root/"cat"/"pipe.png")), two
    yield "a link to a device", with_links({"cat/zero.png": "/dev/zero"}), two
    yield "other files", lambda: (plain(), [(root/n).write_bytes(b"x") for n in ("notes.txt", "cat/scan.tif")]), two
    yield "deep", more("cat/a/b/c/3.png"), {"cat": 2, "dog": 1}
    yield "capitals", more("cat/3.PNG"), {"cat": 2, "dog": 1}
    yield "a folder called like a file", lambda: (plain(), (root/"dog"/"album.png").mkdir()), two
    yield "images beside classes", more("3.png"), {**two, "images": 1}
    yield "images beside images", more("3.png", "images/4.png"), "called images"
    yield "a class of trains", more("train/3.png"), {**two, "train": 1}
    yield "splits beside classes", more("train/3.png", "test/4.png"), "other images beside them"
    yield "splits inside classes", more("cat/train/3.png", "cat/test/4.png"), "several splits"
    train = [root/"train"/"cat"/"1.png", root/"train"/"dog"/"2.png"]
    def split(*others): return lambda: [image(p) for p in (*train, *(root/p for p in others))]
    yield "train and test", split("test/cat/3.png", "test/dog/4.png"), two
    cased = ("Train/cat/1.png", "TEST/cat/2.png", "validation/cat/3.png")
    yield "Train, TEST, validation", lambda: [image(root/p) for p in cased], {"cat": 1}
    yield "train alone", split(), two
    yield "test alone", lambda: image(root/"test"/"cat"/"1.png"), "no 'train' split"
    yield "two for one", split("training/cat/3.png"), "train, training"
    yield "a split and a loose image", split("3.png"), "other images beside them"
    yield "nothing", lambda: root.mkdir(parents=True), "no images"
    yield "nothing but text", lambda: (root.mkdir(parents=True), (root/"x.txt").write_text("x")), "'x.txt'"


@case(3, few=40, many=40)
def what_belongs_to_a_folder(folder, n):
    for i, (what, _, _) in enumerate(every(folders(folder/"names"), n)):
        root = folder/str(i)/"set"
        image(folder/str(i)/"elsewhere"/"9.png")
        make, expected = next((make, expected) for w, make, expected in folders(root) if w == what)
        make()
        if isinstance(expected, str):
            yield what, refused(lambda r=root: load_folder(r), ValueError, FileNotFoundError, saying=expected)
            continue
        try:
            with within(10): found = load_folder(root)
            counts = dict(zip(found.classes, found.labels.bincount(minlength=len(found.classes)).tolist()))
            yield what, agree(counts, expected)
        except Exception as e: yield what, f"{type(e).__name__}: {e}"


@case(3, few=9)
def splits_and_what_is_told(folder, n):
    root = folder/"set"
    for split, count in (("train", 3), ("test", 2), ("val", 1)):
        for i in range(count): image(root/split/"cat"/f"{i}.png", i)
    for split, count in (("train", 3), ("test", 2), ("val", 1)):
        found = load_data(root, split)
        yield f"load_data {split}", agree((len(found), found.split, found.classes), (count, split, ("cat",)))
    yield "no such split", refused(lambda: load_data(root, "dev"), ValueError, saying="'train', 'test', 'val'")
    yield "images of any split", refused(lambda: load_images(root), ValueError, saying=str(root/"test"))
    yield "images of one", agree(len(load_images(root/"test")), 2)
    told, _ = heard(lambda: load_data(root))
    yield "nothing to tell", agree(told, "")
    (root/"labels.csv").write_text("x")
    os.mkfifo(root/"pipe.png")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(root) # names of sockets are short
    try: server.bind("socket.png")
    finally: os.chdir(here)
    told, _ = heard(lambda: load_data(root))
    server.close()
    good = told.count("\n") == 1 and all(w in told for w in ("3 images", "1 .csv ('labels.csv')", "2 special"))
    yield "one line", None if good else f"told {told!r}"
    os.chdir(root/"test")
    try: yield "a folder without a name", agree(load_folder(".").name, "test")
    finally: os.chdir(here)


def spread(lo, hi, shape=(4, 1, 28, 28)): # floats that reach both ends
    return np.linspace(lo, hi, int(np.prod(shape)), dtype=np.float32).reshape(shape)


FLOATS = { # -> are they [-1, 1], plainly?
    (-1, 1): True, (-1.05, 1.1): True, (-0.99, 0.2): True, (0, 1): False, (0.2, 0.9): False, (-0.005, 1): False,
    (-0.5, 0.5): False, (0, 255): False, (-128, 127): False, (-2.1, 2.6): False, (0, 0): False, (0, 1e-3): False,
    (0, np.nan): False, (-1, np.inf): False}


@case(4, few=60, many=60)
def floats_in_files(folder, n):
    for (lo, hi), good in FLOATS.items():
        for kind in (np.float32, np.float64, np.float16, ">f4"):
            file, x = folder/"floats.npz", spread(lo, hi).astype(kind)
            np.savez(file, x)
            what = f"{lo} ... {hi} as {np.dtype(kind)}"
            if not good: yield what, refused(lambda f=file: load_images(f), ValueError, saying=str(file))
            else:
                same = torch.equal(load_images(file), torch.from_numpy(x.astype(np.dtype(kind).newbyteorder("="))).to(
                    torch.float64 if np.dtype(kind).itemsize == 8 else torch.float32))
                yield what, agree(same, True)


@case(4, few=4)
def floats_in_commands(folder, n):
    np.savez(folder/"x.npz", spread(0, 1))
    for command in (run_reconstruct, run_interpolate, run_fid):
        yield command.__name__, refused(lambda c=command: c(folder/"x.npz", quiet=True, out=folder/"x.png"), ValueError,
                                        saying="0 ... 1")
    dim = torch.from_numpy(spread(0, 255))*0
    dim[0, 0, 0, :4] = 255.
    yield "few bright pixels of 0 ... 255", refused(lambda: as_images(dim - 1, (1, 28, 28)), ValueError, saying="254")
    bright = torch.from_numpy(spread(0.1, 1))
    yield "bright tensors are tensors", agree(torch.equal(as_images(bright, (1, 28, 28)), bright), True)
    yield "where background is -1", refused(lambda: as_images(bright, (1, 28, 28), dark=True), ValueError,
                                            saying="2*x - 1")


def npz(path, header=None, content=b"", name="arr_0.npy", method=zipfile.ZIP_STORED): # by hand
    with zipfile.ZipFile(path, "w", method) as archive: archive.writestr(name, (header or b"") + content)
    return path


def header(shape, dtype="|u1", version=b"\x01\x00"):
    said = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    said += b" "*(-(len(said) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(said)) + said


class Explosive: # what it does if it is unpickled
    def __reduce__(self): return os.abort, ()


def bad_archives(path):
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 28), dtype=np.uint8)
    def plain(array): return lambda: np.savez(path, array)
    yield "empty file", lambda: path.write_bytes(b"")
    yield "text", lambda: path.write_text("images")
    yield "a .npy", lambda: path.write_bytes(saved_npy(x))
    def cut(share, **how):
        def make():
            (np.savez_compressed if how else np.savez)(path, x)
            whole = path.read_bytes()
            path.write_bytes(whole[:int(len(whole)*share)])
        return make
    for share in (0.1, 0.5, 0.9, 0.99):
        yield f"{share} of one", cut(share)
        yield f"{share} of a compressed one", cut(share, compressed=True)
    def flipped():
        np.savez_compressed(path, x)
        whole = bytearray(path.read_bytes())
        whole[len(whole)//2] ^= 64
        path.write_bytes(bytes(whole))
    yield "one bit flipped", flipped
    yield "objects", plain(np.array([Explosive()]*4, dtype=object))
    yield "nested", plain(np.array([{"x": 1}], dtype=object))
    for kind in ("bool", "complex64", "U3", "S3", "datetime64[s]"): yield kind, plain(np.zeros((4, 1, 28, 28), kind))
    yield "records", plain(np.zeros((4, 28, 28), [("r", "u1"), ("g", "u1")]))
    yield "256", plain(x.astype(np.int64) + 1)
    yield "-1", plain(x.astype(np.int16) - 1)
    yield "16 bits", plain(x.astype(np.uint16)*257)
    yield "0 and 1", plain(x % 2)
    for shape in ((), (5,), (28, 28), (0, 1, 28, 28), (4, 0, 28, 1), (4, 2, 28, 28), (4, 28, 28, 4), (1, 4, 1, 28, 28),
                  (28, 28, 3)):
        yield f"shape {shape}", plain(np.zeros(shape, np.uint8))
    yield "no arr_0", lambda: np.savez(path, images=x)
    yield "no names", lambda: npz(path, name="readme.txt", content=b"x")
    yield "a million millions", lambda: npz(path, header((10**6, 1000, 1000, 1)), b"x"*100)
    yield "a million millions, small zip", lambda: npz(path, header((10**6, 1000, 1000, 1)), b"x"*100, method=8)
    yield "more than integers of 64 bits", lambda: npz(path, header((2**62, 2**62, 4, 1)))
    yield "negative", lambda: npz(path, header((-4, -1, 28, 28)), bytes(4*28*28))
    yield "one byte too few", lambda: npz(path, header((4, 1, 28, 28)), bytes(4*28*28 - 1))
    yield "one byte too many", lambda: npz(path, header((4, 1, 28, 28)), bytes(4*28*28 + 1))
    yield "a version to come", lambda: npz(path, header((4, 1, 28, 28), version=b"\x09\x00"), bytes(4*28*28))
    def lying(): # the archive's own list promises as much as the header
        npz(path, header((10**6, 30, 100, 1)), b"x"*100)
        whole = path.read_bytes()
        size = struct.pack("<I", len(header((10**6, 30, 100, 1))) + 100)
        path.write_bytes(whole.replace(size*2, size + struct.pack("<I", 3*10**9 + 128)))
    yield "a lying archive", lying
    yield "a pipe", lambda: os.mkfifo(path)


def saved_npy(x):
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


@case(11, few=60, many=60)
def broken_archives(folder, n):
    for i, (what, _) in enumerate(bad_archives(folder/"x")):
        path = fresh(folder, str(i))/"broken.npz"
        next(make for w, make in bad_archives(path) if w == what)()
        try:
            with within(20): yield what, refused(lambda p=path: load_images(p), ValueError, saying=str(path))
        except TimeoutError as e: yield what, str(e)


@case(11, few=12, many=12)
def good_archives(folder, n):
    "What is written in an unusual way, and means what it says."
    x = np.random.default_rng(0).integers(0, 256, (4, 1, 28, 27), dtype=np.uint8)
    forms = {"(N, C, H, W)": x, "(N, H, W, C)": np.moveaxis(x, 1, -1), "(N, H, W)": x[:, 0],
             "Fortran order": np.asfortranarray(x), "int64": x.astype(np.int64), "big-endian": x.astype(">i2"),
             "float32": x.astype(np.float32)/127.5 - 1}
    for what, form in forms.items():
        for save in (np.savez, np.savez_compressed):
            save(folder/"x.NPZ.npz", form)
            found = load_images(folder/"x.NPZ.npz")
            if found.is_floating_point(): found = found.add(1).mul(127.5).round().to(torch.uint8)
            yield what, agree(np.array_equal(found, x), True)
    np.savez_compressed(folder/"black.npz", np.zeros((400, 28, 28, 1), np.uint8))
    yield "all black, compressed well", agree(tuple(load_images(folder/"black.npz").shape), (400, 1, 28, 28))


@case(12, few=5)
def cards_of_others(folder, n):
    model, schedule, sheet = UNet(sample_size=8, widths=(32, 32), patch_size=1), linear_schedule(20), folder/"r.png"
    np.savez(folder/"x.npz", np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8))
    cards = {"none": {}, "another tool's": dict(data=["a", "b"], settings="none"), "a folder's": dict(data="pets"),
             "a null": dict(data=None, settings=None)}
    for what, card in cards.items():
        own = folder/what.replace(" ", "_").replace("'", "")
        save_pretrained(model, schedule, own)
        (own/CARD_FILE).unlink()
        if card: write_json(own/CARD_FILE, card)
        yield f"{what}, no images", refused(lambda m=own: run_reconstruct(model=str(m), steps=3, quiet=True, out=sheet),
                                           ValueError, saying="give images")
        told = run_reconstruct(folder/"x.npz", model=str(own), steps=3, quiet=True, out=sheet)
        yield f"{what}, images", None if "4 images" in told else told
    save_pretrained(model, schedule, folder/"ours")
    write_json(folder/"ours"/CARD_FILE, read_json(folder/"ours"/CARD_FILE) | dict(data="digits", settings=None))
    told = run_reconstruct(model=str(folder/"ours"), n=2, steps=3, quiet=True, out=sheet)
    yield "settings that are null", None if "digits/test" in told else told


@case(15, few=20)
def options_and_checks(folder, n):
    image(folder/"set"/"cat"/"1.png", 10), image(folder/"set"/"dog"/"2.png", 20)
    x = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), dtype=np.uint8)
    np.savez(folder/"x.npz", x)
    npz_file, root = folder/"x.npz", folder/"set"
    digits = load_data("digits", classes=(c for c in "37"))
    yield "classes from a generator", agree((digits.classes, len(digits) > 100), (("3", "7"), True))
    yield "classes of a set", refused(lambda: load_data("digits", classes={"3", "7"}), ValueError, saying="list")
    yield "no classes", refused(lambda: select_classes(digits, iter(())), ValueError, saying="non-empty")
    yield "classes, one word", refused(lambda: load_data(root, classes="cat"), ValueError, saying="'cat'")
    yield "channels of a named set", refused(lambda: load_data("digits", channels=3), ValueError, saying="for folders")
    for what, f in {"a named set": lambda: load_data("digits", skip_broken=True),
                    "a file": lambda: load_images(npz_file, skip_broken=True)}.items():
        yield f"skip_broken of {what}", refused(f, ValueError, saying="for folders")
    yield "channels of a file", refused(lambda: load_images(npz_file, 3), ValueError, saying="1 channels, where 3")
    yield "NumPy's integers", agree(tuple(load_folder(root, np.int64(3), np.int32(3)).images.shape), (2, 3, 3, 3))
    for wrong, error in ((2, ValueError), (True, TypeError), ("1", TypeError), (3., TypeError)):
        yield f"channels {wrong!r}", refused(lambda w=wrong: load_folder(root, channels=w), error, saying="channels")
    yield "grey stays grey", agree(tuple(load_data(root).images.shape), (2, 1, 4, 4))
    each = torch.from_numpy(x)
    yield "as_images of an iterator", agree(tuple(as_images(iter(each), (1, 28, 28)).shape), (4, 1, 28, 28))
    yield "as_images of PIL images", agree(len(as_images([Image.fromarray(i[..., 0]) for i in x], (1, 28, 28))), 4)
    two = [x[0], x[0, 1:]]
    yield "as_images of shapes", refused(lambda: as_images(two, (1, 28, 28)), ValueError, saying="one shape")
    yield "as_images of nothing", refused(lambda: as_images([], (1, 28, 28)), ValueError, saying="no images")
    yield "fid on a card", refused(lambda: run_fid(npz_file, device="cuda"), ValueError, saying="cpu")
    yield "corners and n", refused(lambda: run_interpolate(corners=True, n=2), ValueError, saying="--n 2")
    yield "images and seed", refused(lambda: run_interpolate(npz_file, seed=1), ValueError, saying="--seed")
    yield "images and solver", refused(lambda: run_interpolate(npz_file, solver="heun"), ValueError, saying="'heun'")
    for out, f in ((folder, run_fid), (npz_file/"s.json", run_fid)):
        yield f"fid --out {out.name}", refused(lambda o=out, f=f: f("nowhere.npz", out=o), OSError, saying="--out")
    (folder/"film.gif").mkdir()
    film = folder/"film.gif"
    yield "animate --out a folder", refused(lambda: run_animate(model="nobody", out=film), OSError, saying="--out")
    os.mkfifo(folder/"pipe.png")
    yield "--out a pipe, which is written through", agree(check_out(folder/"pipe.png", (".png",)), folder/"pipe.png")
    said = io.StringIO()
    with redirect_stderr(said): code = main(["reconstruct", str(root), "--skip-broken", "--out", str(folder/"x.bmp")])
    yield "one line of the shell", agree((code, said.getvalue().count("\n")), (2, 1))

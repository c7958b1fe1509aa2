"Run notebooks, keep their outputs, and make the stored pictures small: `tools/outputs.py [notebook ...]`, default all."
import base64
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from nbformat import read, write
from PIL import Image

ROOT = Path(__file__).parent.parent
MAX_WIDTH = 640 # pixels
PALETTES = ((64, 15_000), (24, float("inf"))) # colours, and the bytes up to which they are kept


def palette_method(picture:Image.Image)->Image.Quantize:
    "Pick the palette that changes least of what is not paper: thin coloured lines and photos want different ones."
    pixels = np.asarray(picture).astype(float)
    paper = max(picture.getcolors(picture.width*picture.height))[1]
    drawn = (pixels != paper).any(-1)

    def change(method):
        quantized = np.asarray(picture.quantize(PALETTES[0][0], method=method, kmeans=1).convert("RGB"))
        return np.abs(quantized - pixels)[drawn].mean() if drawn.any() else 0.

    return min((Image.Quantize.MEDIANCUT, Image.Quantize.FASTOCTREE), key=change)


def shrink(data:str)->str: # base64 PNG -> smaller base64 PNG
    "Scale a stored picture to at most `MAX_WIDTH` pixels, on white paper, and give it a palette."
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    if picture.mode == "P": return data
    if picture.width > MAX_WIDTH:
        picture = picture.resize((MAX_WIDTH, round(picture.height*MAX_WIDTH/picture.width)), Image.Resampling.LANCZOS)
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")
    method = palette_method(picture)
    for n_colours, most in PALETTES:
        buffer = io.BytesIO()
        picture.quantize(n_colours, method=method, kmeans=1).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= most: break
    return min(base64.b64encode(buffer.getvalue()).decode(), data, key=len)


def main():
    "Execute, save, shrink, clean."
    paths = [Path(p).resolve() for p in sys.argv[1:]] or sorted((ROOT/"nbs").rglob("*.ipynb"))
    tool = Path(sys.executable).parent
    for path in paths:
        subprocess.run([tool/"nbdev-test", path, "--save", "--n-workers", "0"], cwd=ROOT, check=True)
        nb = read(path, as_version=4)
        for cell in nb.cells:
            for out in cell.get("outputs", []):
                if "image/png" in out.get("data", {}): out.data["image/png"] = shrink(out.data["image/png"])
        write(nb, path)
        subprocess.run([tool/"nbdev-clean", "--fname", path], cwd=ROOT, check=True)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size/1e3:.0f} kB")


if __name__ == "__main__": main()

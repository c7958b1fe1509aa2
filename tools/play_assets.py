"Fetch the browser's runtime with npm, export the network, put both into a site: `tools/play_assets.py _docs`."
import argparse
import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CACHE = ROOT/"build"/"play" # not in the repository
PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
RUNTIME, GLUE, WASM = "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
PRECISION = "fp16" # as exact as the stored weights, at half the bytes
EVALUATIONS = 5, 8 # of the solvers that are fitted here, where none ships for the network


def fetch_runtime()->Path: # folder with the three files
    "Fetch the pinned version once; a `RuntimeError` if npm cannot, a `ValueError` if what it brings is another file."
    folder = CACHE/f"{PACKAGE}-{VERSION}"
    if all((folder/name).is_file() for name in (RUNTIME, GLUE, WASM)): return folder
    npm = shutil.which("npm")
    if npm is None: raise RuntimeError(f"npm is not installed, and {PACKAGE} {VERSION} is not in {folder}")
    with tempfile.TemporaryDirectory() as tmp:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--fetch-retries=1", "--fetch-timeout=60000"]
        run = subprocess.run(command, cwd=tmp, capture_output=True, text=True, timeout=300)
        packed = next(Path(tmp).glob("*.tgz"), None)
        if run.returncode or packed is None: raise RuntimeError(f"npm did not bring {PACKAGE} {VERSION}")
        algorithm, _, wanted = INTEGRITY.partition("-")
        found = base64.b64encode(hashlib.new(algorithm, packed.read_bytes()).digest()).decode()
        if found != wanted: raise ValueError(f"{PACKAGE} {VERSION} is not the pinned file: {algorithm}-{found}")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed) as tar:
            for name in (RUNTIME, GLUE, WASM):
                (folder/name).write_bytes(tar.extractfile(f"package/dist/{name}").read())
    return folder


def pick_model()->str:
    "Name the network of the page: the shipped one if it knows labels, else the repository's that does."
    from slowddim.files import weights_dir
    config = json.loads((weights_dir()/"fashion_mnist"/"config.json").read_text("utf-8"))
    knows_labels = config.get("num_class_embeds") is not None
    other = "models/fashion_mnist_labels"
    return other if not knows_labels and (ROOT/other).is_dir() else "fashion_mnist"


def export(name:str, precision:str=PRECISION)->Path: # of a model; folder with model.onnx and export.json
    "Export a network once."
    from slowddim.export import export_model
    from slowddim.files import read_model_folder, weights_dir
    source = ROOT/name if (ROOT/name).is_dir() else weights_dir()/name
    digest = read_model_folder(source)[2]["digest"]
    folder = CACHE/f"{Path(name).name}-{digest}-{precision}"
    if not (folder/"export.json").is_file(): export_model(str(source), folder, precision=precision)
    return folder


def fitted(name:str, facts:dict)->list[Path]: # of a model; what `export.json` says; files, fewest evaluations first
    "Find the solvers that were fitted to these weights, and were nearer to their teacher than 2M."
    from slowddim.files import tensors_digest, weights_dir
    from slowddim.learned import load_solver
    from slowddim.schedule import schedule_from_spec
    wanted = facts["digest"], tensors_digest(dict(alpha_bar=schedule_from_spec(facts["schedule"]).alpha_bar))
    found = {}
    for file in (*(weights_dir()/"solvers").glob("*.json"), *own_solvers(name, facts).glob("*.json")):
        solver = load_solver(file)
        fits = (solver.facts["network"], solver.facts["schedule"]) == wanted and solver.facts["guidance"] == 1
        if fits and solver.is_better: found.setdefault(len(solver.timesteps), file)
    return [found[S] for S in sorted(found)]


def own_solvers(name:str, facts:dict)->Path: # the folder of those that were fitted here
    "Name a network's cached solvers by its digest."
    return CACHE/f"solvers-{Path(name).name}-{facts['digest']}"


def fit(name:str, facts:dict, evaluations:tuple=EVALUATIONS, **how): # of a model; as for `slowddim fit-solver`
    "Fit solvers to a network for which there are none, once."
    from slowddim.commands import run_fit_solver
    source = ROOT/name if (ROOT/name).is_dir() else name
    for S in evaluations:
        file = own_solvers(name, facts)/f"{Path(name).name}_{S}.json"
        if file.is_file(): continue
        file.parent.mkdir(parents=True, exist_ok=True)
        print(f"Fitting a solver of {S} evaluations to {name}, about a minute ...", flush=True)
        run_fit_solver(str(source), S, out=str(file), quiet=True, **how)


def describe(file:Path, place:str)->dict: # path from the folder `play`
    "What the page has to know of a file before it fetches it."
    data = file.read_bytes()
    return dict(file=place, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), gzip=len(gzip.compress(data, 6)))


def add(site:Path, name:str|None=None)->str: # a built site; a model; what to tell
    "Put runtime and network into a site; without npm, or the extra onnx, leave the page with its film."
    name = pick_model() if name is None else name
    try: runtime, exported = fetch_runtime(), export(name)
    except (RuntimeError, ImportError, OSError, subprocess.SubprocessError) as e:
        return f"The play page shows its film alone: {e}."
    play = site/"play"
    for file in (RUNTIME, GLUE, WASM):
        (play/"ort").mkdir(parents=True, exist_ok=True)
        shutil.copy(runtime/file, play/"ort"/file)
    shutil.copy(exported/"model.onnx", play/"model.onnx")
    facts = json.loads((exported/"export.json").read_text("utf-8"))
    if not fitted(name, facts): fit(name, facts)
    solvers = fitted(name, facts)
    shutil.rmtree(play/"solvers", ignore_errors=True)
    (play/"solvers").mkdir()
    for file in solvers: shutil.copy(file, play/"solvers")
    if facts["schedule"]["kind"] in ("linear", "cosine"): facts.pop("alpha_bar") # the page computes it
    parts = {n: describe(play/n, n) for n in (f"ort/{RUNTIME}", f"ort/{GLUE}", f"ort/{WASM}", "model.onnx")}
    assets = dict(runtime=f"ort/{RUNTIME}", glue=f"ort/{GLUE}", wasm=parts[f"ort/{WASM}"],
                  model=dict(parts["model.onnx"], name=name), facts=facts, version=VERSION,
                  solvers=[dict(file=f"solvers/{f.name}", **json.loads(f.read_text("utf-8"))) for f in solvers],
                  transferred=sum(p["gzip"] for p in parts.values()))
    (play/"assets.js").write_text(f"export default {json.dumps(assets)};\n", encoding="utf-8")
    learned = " and ".join(str(len(solver["timesteps"])) for solver in assets["solvers"])
    return (f"The play page has {name} ({PRECISION}), {assets['transferred']/1e6:.1f} MB compressed, and solvers "
            f"learned for {learned or 'no'} evaluations.")


def main():
    "Add to a site that is built."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, nargs="?", default=ROOT/"_docs", help="folder of the built site")
    parser.add_argument("--model", help="of the page; default: the shipped network, or the one that knows labels")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    print(add(args.site, args.model))


if __name__ == "__main__": main()

"The house keeps its rooms: import order, code points, and nothing that unpickles."
import ast
import re
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pytest

# design: which rooms each room names as its nearest; what those stand on is open too
ROOMS = dict(core="", weights="core", schedule="core", noising="schedule", oracle="noising", ddpm="noising",
             ddim="ddpm", ode="ddim",
             latent="ode", guidance="latent", data="core", viz="core", animate="viz", unet="noising",
             fast="unet weights guidance",
             pretrained="weights noising unet",
             generate="latent pretrained fast", schedulers="ddim pretrained fast", optim="core",
             train="data ddpm unet weights guidance",
             classifier="data weights",
             distances="core", fid="classifier distances", judges="fid", continuous="train generate",
             presets="continuous", adaptive="train ode")
for room in ("study", "tables", "commands", "studies", "cli", "all"): ROOMS[room] = " ".join(ROOMS)
SAMPLERS = ("schedule", "noising", "oracle", "ddpm", "ddim", "ode", "latent", "guidance")


def may_import(room): # nearest rooms, and whatever those may import
    near = ROOMS[room].split()
    return set(near).union(*map(may_import, near)) if near else set()


def modules(root): return {p.stem: p for p in sorted((root/"slowddim").glob("*.py")) if not p.stem.startswith("_")}


def imported(tree): # every module named in an import anywhere in the file
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["slowddim"*bool(node.level), node.module]))
            yield from [f"slowddim.{a.name}" for a in node.names] if module == "slowddim" else [module]


def test_import_graph_keeps_the_order(root):
    assert "slowddim.core" in set(imported(ast.parse(modules(root)["ddim"].read_text("utf-8"))))
    for room, path in modules(root).items():
        used = {m.split(".")[1] for m in imported(ast.parse(path.read_text("utf-8"))) if m.startswith("slowddim.")}
        assert used <= may_import(room), f"{room} imports {sorted(used - may_import(room))}"


def test_samplers_import_torch_and_lower_rooms_only(root):
    for room in set(SAMPLERS) & set(modules(root)):
        names = {m.split(".")[0] for m in imported(ast.parse(modules(root)[room].read_text("utf-8")))}
        outside = names - {"slowddim", "torch"} - set(sys.stdlib_module_names)
        assert not outside, f"{room} imports {outside}"


def test_notebook_numbers_are_the_order_and_no_module_is_stale(root):
    split = [re.fullmatch(r"(\d\d[a-z]?)_(\w+)", p.stem).groups() for p in (root/"nbs"/"api").glob("*.ipynb")]
    numbered = {name: number for number, name in split} # a letter inserts: 17, 17b, 18
    assert set(numbered) | {"all"} == set(modules(root)) and len(set(numbered.values())) == len(numbered)
    assert sorted(numbered, key=numbered.get) == [r for r in ROOMS if r in numbered]
    for name, path in modules(root).items():
        if name != "all": assert f"nbs/api/{numbered[name]}_{name}.ipynb" in path.read_text("utf-8")[:6000]


def notebooks(root): return sorted((root/"nbs").rglob("*.ipynb"))


def shows_something(source): # does the cell end in an expression that is no bare call for its effect?
    last = ast.parse(source).body[-1:]
    if not last or not isinstance(last[0], ast.Expr): return False
    return not (isinstance(last[0].value, ast.Call) and ast.unparse(last[0].value.func) in ("test_eq", "test_close"))


def test_notebooks_are_run_small_and_clean(root):
    for path in notebooks(root):
        assert path.stat().st_size <= 400_000, f"{path.name}: {path.stat().st_size} bytes with its outputs"
        nb = nbformat.read(path, 4)
        for text in (str(o) for c in nb.cells for o in c.get("outputs", []) if "image/png" not in o.get("data", {})):
            assert not re.search(r"/(?:tmp|root|home|work|Users)/", text), f"{path.name}: a path of one machine"
        assert len({c.id for c in nb.cells}) == len(nb.cells)
        for cell in nb.cells:
            assert not re.search(r"#\|\s*eval:\s*false", cell.source), f"{path.name}: a cell is never run"
            outputs = cell.get("outputs", [])
            for out in outputs: assert out.output_type != "error", f"{path.name}: stored error {out.ename}"
            if cell.cell_type == "code" and shows_something(cell.source):
                assert outputs, f"{path.name}: not run: {cell.source[-60:]!r}"


ALLOWED_GREEK = set("αβγεημσθτᾱΣ")


def test_one_code_point_per_symbol(root):
    for path in [*modules(root).values(), *notebooks(root)]:
        for ch in set(path.read_text("utf-8")):
            name = unicodedata.name(ch, "")
            assert "COMBINING" not in name and ch not in "ɑϵµ₀₁ₜ", f"{path.name}: {name}"
            if name.startswith("GREEK"): assert ch in ALLOWED_GREEK, f"{path.name}: {name}"


def test_public_names_are_ascii(root):
    for name, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                args = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                assert all(a.arg.isascii() for a in args) and node.name.isascii(), f"{name}.{node.name}"


def test_nothing_is_unpickled(root):
    for path in [*modules(root).values(), *(root/"tools").glob("*.py")]:
        text = path.read_text("utf-8")
        assert not re.search(r"torch\.load\(|import pickle|allow_pickle\s*=\s*True|joblib", text), path.name


@pytest.mark.parametrize("module", ["slowddim.ddim", "slowddim.schedule", "slowddim.core", "slowddim.guidance"])
def test_samplers_start_light(module):
    heavy = ["diffusers", "datasets", "matplotlib", "accelerate", "torchvision", "pandas", "sklearn", "huggingface_hub"]
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=True).stdout.strip() == "[]"


def test_import_time_beyond_torch():
    code = "import torch, time; t = time.perf_counter(); import slowddim.ddim; print(time.perf_counter() - t)"
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                  check=True).stdout) for _ in range(3)]
    assert min(times) < 0.3, f"import slowddim.ddim took {min(times):.2f} s beyond torch"


def test_every_module_imports_alone(root):
    def alone(name): return name, subprocess.run([sys.executable, "-c", f"import slowddim.{name}"]).returncode
    with ThreadPoolExecutor(2) as pool: assert not [name for name, code in pool.map(alone, modules(root)) if code]

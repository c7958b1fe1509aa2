"The architecture holds: import order, code points, and nothing that unpickles."
import ast
import re
import subprocess
import sys
import unicodedata

import nbformat
import pytest

SAMPLING = "2_sampling"


def place_of(root): # module -> its folder, and the number of its notebook there
    pages = {p.stem.split("_", 1)[1]: p for p in (root/"nbs"/"api").glob("*/*.ipynb")}
    return {name: (p.parent.name, p.stem.split("_", 1)[0]) for name, p in pages.items()}


def modules(root): return {p.stem: p for p in sorted((root/"slowddim").glob("*.py")) if not p.stem.startswith("_")}


def imported(tree): # every module named in an import anywhere in the file
    for node in ast.walk(tree):
        if isinstance(node, ast.Import): yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["slowddim"*bool(node.level), node.module]))
            yield from [f"slowddim.{a.name}" for a in node.names] if module == "slowddim" else [module]


def test_modules_import_what_comes_before_them(root):
    "A module imports from folders of smaller number, and from smaller numbers in its own folder."
    places = place_of(root)
    assert "slowddim.core" in set(imported(ast.parse(modules(root)["ddim"].read_text("utf-8"))))
    for name, path in modules(root).items():
        if name == "all": continue
        used = {m.split(".")[1] for m in imported(ast.parse(path.read_text("utf-8"))) if m.startswith("slowddim.")}
        against = {m for m in used if places[m] >= places[name]}
        assert not against, f"{name} in {places[name]} imports {sorted(against)}"


def test_samplers_import_torch_and_lower_modules_only(root):
    for name, (folder, _) in place_of(root).items():
        if folder != SAMPLING: continue
        names = {m.split(".")[0] for m in imported(ast.parse(modules(root)[name].read_text("utf-8")))}
        outside = names - {"slowddim", "torch", "fastcore"} - set(sys.stdlib_module_names)
        assert not outside, f"{name} imports {outside}"


def test_every_notebook_is_a_module_and_no_module_is_stale(root):
    places = place_of(root)
    assert set(places) | {"all"} == set(modules(root)) and len(set(places.values())) == len(places)
    for folder in {folder for folder, _ in places.values()}:
        numbers = sorted(number for own, number in places.values() if own == folder)
        assert numbers == [f"{i:02d}" for i in range(1, len(numbers) + 1)], f"{folder}: {numbers}"
    for name, path in modules(root).items():
        if name == "all": continue
        folder, number = places[name]
        assert f"nbs/api/{folder}/{number}_{name}.ipynb" in path.read_text("utf-8")[:6000]


def test_ddim_can_be_read_end_to_end():
    "Sampling by DDIM runs at most 12 functions of ours outside `core`, on at most 4 pages."
    import torch

    from slowddim.ddim import ddim_sample
    from slowddim.schedule import linear_schedule
    seen = set()

    def note(frame, event, arg):
        code = frame.f_code
        if event == "call" and "slowddim" in code.co_filename and not code.co_name.startswith("<"):
            seen.add((code.co_filename.replace("\\", "/").split("/")[-1], code.co_name))

    schedule, x_T = linear_schedule(), torch.randn(2, 1, 4, 4)
    sys.setprofile(note)
    try: ddim_sample(lambda x, t: x, x_T, schedule, 10)
    finally: sys.setprofile(None)
    ours = sorted((file, name) for file, name in seen if file not in ("core.py", "test_architecture.py"))
    assert len(ours) <= 12 and len({file for file, _ in ours}) <= 4, ours


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
    "In a child of a process that has imported what takes long, and nothing of ours."
    code = """
import importlib, os, sys
import datasets, diffusers, matplotlib.pyplot, torch
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try: importlib.import_module(f"slowddim.{name}")
        except BaseException: os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]: print(name)
"""
    done = subprocess.run([sys.executable, "-c", code, *modules(root)], capture_output=True, text=True, check=True)
    assert done.stdout == ""

"Every exported name says what its parameters are."
import ast
import importlib
import inspect
import re
import textwrap

from fastcore.docments import docments

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) # passed on: described where they arrive


def exported(path): # names in `__all__` of a generated module
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def silent_fields(obj): # of a named tuple or a dataclass
    lines = textwrap.dedent(inspect.getsource(obj)).splitlines()
    tree = next(n for n in ast.parse("\n".join(lines)).body if isinstance(n, ast.ClassDef))
    fields = [f for f in tree.body if isinstance(f, ast.AnnAssign)]
    return [f.target.id for f in fields if "#" not in " ".join(lines[f.lineno - 1:f.end_lineno])]


def unsaid(obj): # parameters without a description
    obj = inspect.unwrap(obj)
    if hasattr(obj, "_fields") or hasattr(obj, "__dataclass_fields__"): return silent_fields(obj)
    try: skip = {p.name for p in inspect.signature(obj).parameters.values() if p.kind in VARIADIC}
    except (ValueError, TypeError): return []
    if inspect.isclass(obj) and "__new__" in vars(obj): obj = obj.__new__
    found = docments(obj, full=True)
    skip |= {"self", "cls", "return", "args", "kwargs"}
    return [k for k, v in found.items() if k not in skip and not v.get("docment")]


def methods(cls): # public ones of its own that say what they do
    named = ((k, getattr(v, "__func__", v)) for k, v in vars(cls).items() if k == "__call__" or not k.startswith("_"))
    return {k: f for k, f in named if inspect.isfunction(f) and f.__doc__}


def modules(root):
    return sorted(p for p in (root/"slowddim").glob("*.py") if not p.stem.startswith("_") and p.stem != "all")


def test_parameters_are_described(root):
    missing = []
    for path in modules(root):
        module = importlib.import_module(f"slowddim.{path.stem}")
        for name in exported(path):
            obj = getattr(module, name)
            if not (inspect.isfunction(obj) or inspect.isclass(obj)): continue
            if not obj.__doc__: missing.append(f"{path.stem}.{name}: no docstring")
            missing += [f"{path.stem}.{name}: {p}" for p in unsaid(obj)]
            own = methods(obj) if inspect.isclass(obj) else {}
            missing += [f"{path.stem}.{name}.{k}: {p}" for k, f in own.items() for p in unsaid(f)]
    assert not missing, "\n".join(missing)


def test_what_is_not_said_is_found():
    def half(a, # said
             b, *args, **kwargs): "Do it."
    assert unsaid(half) == ["b"]


def test_every_report_is_headed_by_what_it_reproduces_and_a_verdict(root):
    import nbformat
    pages = sorted((root/"nbs"/"reports").glob("*.ipynb"))
    assert len(pages) >= 6
    for path in pages:
        head = nbformat.read(path, as_version=4).cells[1].source
        assert head.startswith("**Reproduces.** "), path.name
        lines = re.findall(r"(?m)^\d\. \S.*$", head.partition("**Verdict.**")[2])
        assert [line[0] for line in lines] == ["1", "2", "3"], path.name


def test_every_lesson_ends_with_exercises_that_run(root):
    import nbformat
    for path in sorted(p for folder in ("lessons", "reports") for p in (root/"nbs"/folder).glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        texts = [c.source if c.cell_type == "markdown" else "" for c in cells]
        found = [i for i, text in enumerate(texts) if "{.callout-tip collapse=" in text]
        assert [f'title="Answer {n}"}}' in texts[i] for n, i in enumerate(found, 1)] == [True]*3, path.name
        assert all(cells[i + 1].cell_type == "code" and texts[i + 2].startswith(":::\n") for i in found), path.name
        assert all(re.search(r"\b(test_\w+\(|assert\b)", cells[i + 1].source) for i in found), f"{path.name}: untested"
        assert "## Exercises" in texts[found[0]] and "## What to read next" in texts[-1], path.name
        address = f"slowddim/blob/main/nbs/{path.parent.name}/{path.name})"
        assert address in "".join(texts), f"{path.name}: no link to Colab"


def test_the_front_page_knows_every_lesson_and_the_scores(root):
    from slowddim.files import read_json
    text = (root/"README.md").read_text("utf-8")
    lessons = "https://github.com/slowddim/slowddim/blob/main/nbs/lessons"
    for path in (root/"nbs"/"lessons").glob("*.ipynb"): assert f"({lessons}/{path.name}) |" in text, path.name
    for r in read_json(root/"results"/"solvers_fashion_mnist.json")["rows"]:
        if r["n"] == 10_000 and r["spacing"] == "trailing": assert f"{r['fid']['value']:.2f} (" in text, r["solver"]

"""What users and machines do to a program, as cases: a few in `make test`, all of them in `make trust`.

A case is a function `(folder, n)` that tries `n` things (or all it has) and yields, for each, what was tried and
what was wrong: None if the right value came out, or the right error. A case never asserts: it reports, so that one
fault does not hide the next.
"""
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

KINDS = {
    1: "what is not finite", 2: "an image file is more than its bytes", 3: "which files belong to a folder",
    4: "the range of floats", 5: "integers where real numbers are meant", 6: "identity by name", 7: "two writers",
    8: "other people's files", 9: "full disk", 10: "Ctrl-C and kill", 11: "bad command lines",
    12: "cards that are not ours", 13: "the process leaks into the run", 14: "numbers that wrap or count wrong",
    15: "options not used, checks too late", 16: "a device without float64", 17: "several GPUs", 18: "any input",
}


class Case(NamedTuple):
    kind: int # a key of `KINDS`
    name: str # of the function
    run: Callable # (folder, n) -> iterator of (what was tried, what was wrong or None)
    few: int # how many `make test` tries
    many: int # how many `make trust` tries


CASES: list[Case] = []


def case(kind:int, few:int=1, many:int|None=None)->Callable: # many: None: as few
    "Add the function below to the cases."
    def register(run:Callable[[Path, int], Iterator])->Callable:
        CASES.append(Case(kind, f"{run.__module__.rsplit('.', 1)[-1]}.{run.__name__}", run, few, many or few))
        return run
    return register


def all_cases()->list[Case]: # sorted by kind
    "Import every module beside this one and return what they registered."
    for module in pkgutil.iter_modules(__path__): importlib.import_module(f"{__name__}.{module.name}")
    return sorted(CASES, key=lambda c: (c.kind, c.name))


def refused(f:Callable, *errors:type[Exception], saying:str="")->str|None: # what was wrong; None: nothing
    "Call `f` and say what was wrong if it does not raise one of `errors` with this text."
    try: value = f()
    except errors as e: return None if saying in str(e) else f"said {str(e)!r}, not {saying!r}"
    except BaseException as e: return f"{type(e).__name__}: {e}"
    return f"accepted, gave {value!r:.80}"


def agree(found:object, expected:object)->str|None: # what was wrong
    "Say what differs."
    return None if found == expected else f"{found!r:.80} instead of {expected!r:.80}"

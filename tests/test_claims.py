"Every claim of the five sources has a verdict, and every verdict has evidence that exists."
import re
from collections import Counter

import nbformat
import pytest

from slowddim.files import read_json

SOURCES = ("course notebook", "adaptive README", "French report", "Korean review", "slides")
VERDICTS = ("right", "partly", "wrong", "not shown")


def rows(root): return read_json(root/"nbs"/"reports"/"claims.json")["rows"]


def problem(root, where): # None, or what is wrong with a piece of evidence
    file, _, test = where.partition("::")
    file, _, heading = file.partition("#")
    path = root/file
    if not path.is_file(): return "no such file"
    if test: return None if f"def {test}(" in path.read_text("utf-8") else "no such test"
    if not heading: return None if path.suffix == ".json" else "a page needs a place in it"
    if path.suffix == ".md": return None if heading in path.read_text("utf-8") else "no such text"
    texts = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    return None if any(re.search(rf"^#+ {re.escape(heading)}$", t, re.M) for t in texts) else "no such heading"


def test_the_table_is_complete(root):
    table = rows(root)
    assert len(table) >= 30 and set(Counter(r["source"] for r in table)) == set(SOURCES)
    assert min(Counter(r["source"] for r in table).values()) >= 5
    assert len({(r["source"], r["claim"]) for r in table}) == len(table)
    for row in table:
        assert row["verdict"] in VERDICTS, row
        assert row["truth"] and row["evidence"], row


def test_all_evidence_exists(root):
    found = {(r["claim"], where): problem(root, where) for r in rows(root) for where in r["evidence"]}
    assert not {k: v for k, v in found.items() if v}


@pytest.mark.parametrize("where", ["tests/test_claims.py::test_nothing_like_this", "results/no.json", "README.md",
                                   "nbs/api/2_sampling/06_ddim.ipynb#No such heading"])
def test_missing_evidence_is_noticed(root, where): assert problem(root, where)

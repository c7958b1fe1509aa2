"The formulas that `tools/mutants.py` breaks: do they still stand where it looks, and what it writes."
import json

import pytest
from test_packaging import tool # noqa: F401


def test_every_mutant_fits(root, tool): # noqa: F811
    mutants = tool("mutants")
    for name, mutant in mutants.MUTANTS.items():
        page = root/"nbs"/"api"/f"{mutant.page}.ipynb"
        module = root/"slowddim"/f"{page.stem.split('_', 1)[1]}.py"
        for path, right in [(page, json.dumps(mutant.right, ensure_ascii=False)[1:-1]), (module, mutant.right)]:
            assert path.read_text("utf-8").count(right) == 1, f"{name}: {path.name}"
        assert all((root/"tests"/test).is_file() for test in mutant.tests.split()), name


def test_a_row_for_each_mutant(root, tool): # noqa: F811
    mutants = tool("mutants")
    row = mutants.row("sigma without eta", "its page")
    assert list(row) == ["formula", "page", "right", "wrong", "noticed_by"] and row["noticed_by"] == "its page"
    file = root/"results"/"mutants.json"
    if not file.is_file(): pytest.skip("no mutants were tried yet")
    rows = json.loads(file.read_text("utf-8"))["rows"]
    assert {r["formula"] for r in rows} <= set(mutants.MUTANTS)
    assert all(r == mutants.row(r["formula"], r["noticed_by"]) for r in rows)

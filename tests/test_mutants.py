"The formulas that `tools/mutants.py` breaks: they still stand where it looks, and the stored table speaks of them."
import json

import pytest
from test_packaging import tool # noqa: F401


def test_every_mutant_fits(root, tool): # noqa: F811
    for name, mutant in tool("mutants").MUTANTS.items():
        page = root/"nbs"/"api"/f"{mutant.page}.ipynb"
        module = root/"slowddim"/f"{page.stem.split('_', 1)[1]}.py"
        for path, right in [(page, json.dumps(mutant.right, ensure_ascii=False)[1:-1]), (module, mutant.right)]:
            assert path.read_text("utf-8").count(right) == 1, f"{name}: {path.name}"
        assert all((root/"tests"/test).is_file() for test in mutant.tests.split()), name


def test_stored_rows_are_mutants(root, tool): # noqa: F811
    file = root/"results"/"mutants.json"
    if not file.is_file(): pytest.skip("no mutants were tried yet")
    mutants = tool("mutants").MUTANTS
    for row in json.loads(file.read_text("utf-8"))["rows"]:
        assert (row["page"], row["right"], row["wrong"]) == mutants[row["broken"]][:3]
        assert row["noticed_by"] in ("", "its page", *mutants[row["broken"]].tests.split())

"Bad input, bad luck and bad neighbours: the right value or a clear error, see `hostile`."
import pytest

from hostile import KINDS, all_cases

CASES = all_cases()


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.kind}-{c.name}")
def test_holds(case, tmp_path):
    tried = list(case.run(tmp_path, case.few))
    assert tried, "nothing was tried"
    wrong = [f"{what}: {fault}" for what, fault in tried if fault is not None]
    assert not wrong, f"{KINDS[case.kind]}: " + "; ".join(wrong)

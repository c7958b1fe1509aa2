"""The benchmark's own machinery: turns, ratios, and runs that were cut off. Not part of `make test`.

Run: python -m pytest benchmarks/test_paired.py
"""
import bench
import pytest
from paired import take_turns, times_as_fast
from sections import Plan

from slowddim.files import read_json


def told(*values): # a candidate that says its own seconds
    rounds = iter(values)
    return lambda: next(rounds)


def fails(): raise RuntimeError("no such library\nmore")


def test_turns_pair_the_rounds_and_record_what_fails():
    rows = take_turns({"a": told(9., 1., 2., 4.), "b": told(9., 3., 4., 20.), "c": fails}, 60, most=3)
    assert rows["a"]["seconds"] == [1, 2, 4] and rows["a"]["first_seconds"] == 9
    assert rows["c"] == dict(absent="RuntimeError: no such library")
    assert times_as_fast(rows, "a", "b") == dict(value=3., rounds=3, interval=[2., 5.]) # of 3, 2 and 5
    assert times_as_fast(rows, "b", "b")["value"] == 1 and times_as_fast(rows, "a", "c") is None


def test_a_slow_candidate_runs_in_the_first_rounds_only():
    rows = take_turns({"a": told(*[1.]*9), "b": told(*[10.]*9)}, 60, least=2, most=8, slow=4)
    assert rows["a"]["seconds"] == [1.]*8 and rows["b"]["seconds"] == [10., 10.] + [None]*6
    assert times_as_fast(rows, "a", "b") == dict(value=10., rounds=2, interval=[10., 10.])


def test_nothing_to_run(): assert take_turns({"c": fails}, 60) == {"c": dict(absent="RuntimeError: no such library")}


@pytest.fixture
def cut_off(monkeypatch): # a section that fails at its second row until it is told not to
    state = dict(fail=True, ran=[])

    def section(plan, have):
        "Three rows."
        for name in "abc":
            if (name,) in have: continue
            if name == "b" and state["fail"]: raise OSError("the power failed")
            state["ran"].append(name)
            yield dict(key=[name])
    monkeypatch.setitem(bench.SECTIONS, "step", section)
    return state


def test_a_section_that_was_cut_off_goes_on(cut_off, tmp_path):
    file, plan = tmp_path/"x.json", Plan()
    assert not bench.measure("step", plan, file, again=False)
    assert read_json(file)["sections"]["step"]["error"] == "OSError: the power failed"
    cut_off["fail"] = False
    assert bench.measure("step", plan, file, again=False)
    found = read_json(file)["sections"]["step"]
    assert cut_off["ran"] == list("abc") and [row["key"] for row in found["rows"]] == [["a"], ["b"], ["c"]]
    assert found["complete"] and "error" not in found
    assert bench.measure("step", plan, file, again=False) and cut_off["ran"] == list("abc")
    assert bench.measure("step", plan, file, again=True) and cut_off["ran"] == list("abcabc")


def test_another_machine_starts_anew(cut_off, tmp_path, monkeypatch):
    file, here = tmp_path/"x.json", bench.machine_and_weights()
    cut_off["fail"] = False
    bench.measure("step", Plan(), file, again=False)
    for key in bench.SAME:
        assert bench.open_section(file, "step", here | {key: "another"}, again=False)["rows"] == []
    assert len(bench.open_section(file, "step", here, again=False)["rows"]) == 3

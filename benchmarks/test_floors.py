"""Floors of the ratios in results/benchmarks.json, which `make bench` writes. Not part of `make test`.

Run: python -m pytest benchmarks/test_floors.py
"""
from pathlib import Path

import pytest
from paired import times_as_fast
from peers import BASE

from slowddim.files import read_json

FILE = Path(__file__).parent.parent/"results"/"benchmarks.json"
BF16, CHANNELS_LAST_BF16 = ("amx_bf16", "avx512_bf16"), "diffusers channels_last bf16"


@pytest.fixture(scope="module")
def sections():
    if not FILE.is_file(): pytest.skip("nothing is measured yet: make bench")
    return read_json(FILE)["sections"]


def rows(sections, name): # of a section that has been measured to its end
    if name not in sections: pytest.skip(f"{name} is not measured yet")
    assert sections[name]["complete"], f"{name} was cut off: {sections[name].get('error')}"
    return sections[name]["rows"]


def sampling_rows(sections, network): # and whether the processor computes in bfloat16
    found = [row for row in rows(sections, "sampling") if row["network"] == network]
    assert found, f"no row of the {network} network"
    return found, any(sections["sampling"]["machine"][flag] for flag in BF16)


def ratio(row, a, b): # of one row; both have to be there
    absent = {name: row["candidates"][name]["absent"] for name in (a, b) if "absent" in row["candidates"][name]}
    assert not absent, f"{row['key']}: {absent}"
    return times_as_fast(row["candidates"], a, b)["value"]


def test_the_source_network_by_default(sections):
    found, bf16 = sampling_rows(sections, "source")
    for row in found: assert ratio(row, "slowddim", BASE) >= (2. if bf16 else 1.03), row["key"]


def test_the_source_network_against_the_fastest_that_is_not_compiled(sections):
    found, bf16 = sampling_rows(sections, "source")
    if not bf16: pytest.skip("the processor has no bfloat16")
    for row in found: assert ratio(row, "slowddim", CHANNELS_LAST_BF16) >= 0.97, row["key"]


def test_the_source_network_compiled(sections):
    found, bf16 = sampling_rows(sections, "source")
    for row in found: assert ratio(row, "slowddim compiled", BASE) >= (2.6 if bf16 else 1.1), row["key"]


def test_the_shipped_network_by_default(sections):
    found, bf16 = sampling_rows(sections, "shipped")
    for row in found: assert ratio(row, "slowddim", BASE) >= (1.7 if bf16 else 1.2), row["key"]


def test_the_shipped_network_trains_faster_than_the_first(sections):
    found = {row["network"]: row for row in rows(sections, "training")}
    if "shipped" not in found: pytest.skip("the shipped network is the first one")
    assert ratio(found["shipped"], "slowddim", "slowddim, first network") >= 1.5


def test_a_step_costs_a_third_at_most(sections):
    for row in rows(sections, "step")[0]["rows"]: assert row["ratio"] <= 1/3, f"eta={row['eta']}"

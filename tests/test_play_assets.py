"""What is put beside the play page: the runtime that npm brings, and the solvers that fit its network."""
import base64
import hashlib
import io
import json
import shutil
import sys
import tarfile

import pytest
import torch

from slowddim.files import tensors_digest, weights_dir
from slowddim.schedule import linear_schedule


@pytest.fixture
def assets(root, tmp_path, monkeypatch): # tools/play_assets.py with an empty cache
    monkeypatch.syspath_prepend(str(root/"tools"))
    import play_assets
    monkeypatch.setattr(play_assets, "CACHE", tmp_path/"cache")
    return play_assets


def npm(folder, monkeypatch, files, code=0): # a command in the place of npm, which packs these files
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (folder/"bin").mkdir()
    (folder/"packed").write_bytes(packed.getvalue())
    script = (f"#!{sys.executable}\nimport shutil, sys\n"
              f"open({str(folder/'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
              f"if {code}: sys.exit({code})\nshutil.copy({str(folder/'packed')!r}, 'ort.tgz')\n")
    (folder/"bin"/"npm").write_text(script)
    (folder/"bin"/"npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder/"bin"))
    return "sha512-" + base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()


def test_the_pinned_version_is_fetched_once(assets, tmp_path, monkeypatch):
    files = {name: name.encode() for name in (assets.RUNTIME, assets.GLUE, assets.WASM)}
    monkeypatch.setattr(assets, "INTEGRITY", npm(tmp_path, monkeypatch, files))
    for _ in range(2):
        folder = assets.fetch_runtime()
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == files
    asked, = (tmp_path/"asked").read_text().splitlines()
    assert asked.startswith(f"pack {assets.PACKAGE}@{assets.VERSION} ")


def test_another_file_is_refused(assets, tmp_path, monkeypatch):
    npm(tmp_path, monkeypatch, {assets.RUNTIME: b"something else"})
    with pytest.raises(ValueError, match="not the pinned file"): assets.fetch_runtime()
    assert not list((tmp_path/"cache").glob("*/*"))


def test_without_npm_the_film_stays(assets, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="npm is not installed"): assets.fetch_runtime()
    said = assets.add(tmp_path/"site", "fashion_mnist")
    assert said.startswith("The play page shows its film alone: npm is not installed") and assets.VERSION in said


def test_npm_that_fails_is_named(assets, tmp_path, monkeypatch):
    npm(tmp_path, monkeypatch, {}, code=1)
    with pytest.raises(RuntimeError, match=f"did not bring {assets.PACKAGE} {assets.VERSION}"): assets.fetch_runtime()


def facts_of(digest): return dict(digest=digest, schedule=linear_schedule().spec)


def test_solvers_are_those_of_the_network(assets):
    shipped = weights_dir()/"solvers"/"fashion_mnist_5.json"
    data = json.loads(shipped.read_text("utf-8"))
    found = assets.fitted("fashion_mnist", facts_of(data["network"]))
    assert {file.name for file in found} == {file.name for file in shipped.parent.glob("fashion_mnist_*.json")}
    assert assets.fitted("fashion_mnist", facts_of("0"*12)) == []
    other = facts_of(data["network"]) | dict(schedule=linear_schedule(500).spec)
    assert assets.fitted("fashion_mnist", other) == []


@pytest.mark.parametrize("changed", [dict(guidance=2.), dict(held_out=dict(fitted=0.2, dpmpp_2m=0.1)), {}])
def test_own_solvers_count_where_they_help(assets, changed):
    "For guidance 1, and nearer to their teacher than 2M; without a change it counts."
    data = json.loads((weights_dir()/"solvers"/"fashion_mnist_5.json").read_text("utf-8"))
    facts = facts_of("a"*12)
    folder = assets.own_solvers("some_model", facts)
    folder.mkdir(parents=True)
    (folder/"some_model_5.json").write_text(json.dumps(data | dict(network="a"*12) | changed))
    assert len(assets.fitted("some_model", facts)) == (not changed)


def test_a_solver_is_fitted_once(assets, monkeypatch):
    from slowddim import commands
    asked = []
    def fitting(model, steps, out, quiet):
        asked.append((model, steps))
        shutil.copy(weights_dir()/"solvers"/"fashion_mnist_5.json", out)
    monkeypatch.setattr(commands, "run_fit_solver", fitting)
    for _ in range(2): assets.fit("fashion_mnist", facts_of("b"*12), (4, 6))
    assert asked == [("fashion_mnist", 4), ("fashion_mnist", 6)]


def test_the_schedules_digest_is_the_solvers(assets):
    "Both are of alpha-bar in float64."
    data = json.loads((weights_dir()/"solvers"/"fashion_mnist_5.json").read_text("utf-8"))
    assert tensors_digest(dict(alpha_bar=linear_schedule().alpha_bar)) == data["schedule"]
    assert linear_schedule().alpha_bar.dtype == torch.float64

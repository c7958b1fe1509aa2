"What is handed out: the package's metadata, its README, the workflows, and a command however it is started."
import importlib
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import yaml
from test_metadata import settings

import slowddim


@pytest.fixture
def told(root, monkeypatch): # what setup.py hands to setuptools
    found = {}
    monkeypatch.setattr(setuptools, "setup", lambda **kwargs: found.update(kwargs))
    monkeypatch.chdir(root)
    runpy.run_path(str(root/"setup.py"))
    return found


@pytest.fixture
def tool(root, monkeypatch): # imports a module of tools/
    monkeypatch.syspath_prepend(str(root/"tools"))
    return importlib.import_module


def workflows(root): # name -> what it says
    return {p.stem: yaml.safe_load(p.read_text("utf-8")) for p in (root/".github").glob("workflows/*.y*ml")}


def test_setup_hands_on_what_settings_say(root, told):
    cfg = settings(root)
    assert told["license_expression"] == cfg["license"] == "Apache-2.0" and "license" not in told
    assert not [c for c in told["classifiers"] if c.startswith("License")] # an expression stands alone (PEP 639)
    assert told["install_requires"] == cfg["requirements"].split()
    assert set(told["extras_require"]) == {"bench", "docs", "onnx", "trackers", "dev"}
    versions = {f"Programming Language :: Python :: {v}" for v in cfg["python_versions"].split()}
    assert versions <= set(told["classifiers"])
    assert any(c.startswith(f"Development Status :: {cfg['status']} ") for c in told["classifiers"])
    for name, items in told["extras_require"].items():
        assert len(set(items)) == len(items) and all(">=" in r for r in items), name


def test_the_type_marker_and_the_weights_are_package_data(root, told):
    package = root/"slowddim"
    data = {p for pattern in told["package_data"]["slowddim"] for p in package.glob(pattern)}
    assert package/"py.typed" in data and told["packages"] == ["slowddim"]
    assert {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")} == data


def test_the_repository_has_one_address(root):
    cfg, project = settings(root), (root/"pyproject.toml").read_text("utf-8")
    assert f'Repository = "{cfg["git_url"]}"' in project
    assert f'Documentation = "{cfg["doc_host"]}{cfg["doc_baseurl"]}/"' in project


def test_the_readme_works_without_the_repository(root):
    cfg, text = settings(root), (root/"README.md").read_text("utf-8")
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", text)
    assert len(links) > 30 and sum(image == "!" for image, _ in links) >= 3
    pages = f"{cfg['git_url']}/blob/{cfg['branch']}/"
    files = f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{cfg['branch']}/"
    for image, target in links:
        assert target.startswith("https://"), target
        assert not image or target.startswith(files), f"{target} is a page, no image"
        for start in (pages, files):
            if target.startswith(start): assert (root/target.removeprefix(start)).is_file(), target


def test_links_become_addresses(tool):
    absolute = tool("make_readme").absolute
    files = "https://raw.githubusercontent.com/slowddim/slowddim/main/nbs"
    assert absolute("![x](images/a.png)") == f"![x]({files}/images/a.png)"
    assert absolute("[x](a.ipynb#b)") == "[x](https://github.com/slowddim/slowddim/blob/main/nbs/a.ipynb#b)"
    for kept in ("[x](https://a.b/c)", "![x](https://a.b/c.png)", "[x](#here)"): assert absolute(kept) == kept
    assert absolute("[![x](a.svg)](b.ipynb)").count("https://") == 2


def test_lower_bounds(tool):
    module = tool("requirements")
    found = {r: module.lowest(r) for r in ("a>=1.2", "a-b>=3.3,<4", "c==2.0", "d_e>=0.4.3")}
    assert list(found.values()) == ["a==1.2", "a-b==3.3", "c==2.0", "d_e==0.4.3"]
    lists = module.read_lists()
    assert {"run", "dev", "test", "nbdev2", "onnx"} <= set(lists)
    for items in lists.values(): assert all(re.fullmatch(r"[\w.-]+==[\d.]+", module.lowest(r)) for r in items)


def test_requirements_are_followed_to_the_end(tool):
    found = tool("wheel_test").needed(["nbformat>=5.10"])
    assert {"nbformat", "jsonschema", "attrs"} <= set(found) and "torch" not in found


def test_links_of_packages_hold_nothing_else(tool, tmp_path):
    module = tool("wheel_test")
    module.link_packages(module.needed(["nbformat"]), tmp_path/"linked")
    code = "import nbformat, importlib.util as u; print(u.find_spec('torch'))"
    start = f"import sys; sys.path.append({str(tmp_path/'linked')!r})"
    run = subprocess.run([sys.executable, "-S", "-c", f"{start}; {code}"], capture_output=True, text=True)
    assert run.stdout.strip() == "None", run.stderr


def test_workflows_may_read_only_and_know_every_python(root):
    found = workflows(root)
    assert {"test", "docs", "weekly"} <= set(found)
    for name, flow in found.items():
        assert flow["permissions"] == {"contents": "read"}, name
        assert "PIP_EXTRA_INDEX_URL" in flow["env"], f"{name} installs torch for GPUs"
    versions = settings(root)["python_versions"].split()
    assert found["test"]["jobs"]["test"]["strategy"]["matrix"]["python"] == versions


def steps(flow): return [step for job in flow["jobs"].values() for step in job["steps"]] # of all jobs


def test_workflows_use_what_was_looked_at(root): # a tag can be moved to another commit, a commit cannot
    for path in (root/".github").glob("workflows/*.y*ml"):
        used = re.findall(r"uses: (.*)", path.read_text("utf-8"))
        assert used, path.name
        for action in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), f"{path.name}: {action}"


def test_the_site_that_is_published_is_the_one_that_is_tested(root):
    flow = workflows(root)["docs"]
    quarto = next(s for s in steps(flow) if s.get("uses", "").startswith("quarto-dev/quarto-actions/setup@"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", quarto["with"]["version"])
    runs = [s.get("run", "") for s in flow["jobs"]["build"]["steps"]]
    wanted = "make docs", "check_links.py _docs", "SITE=_docs .venv/bin/python -m pytest tests/test_site.py"
    order = [next(i for i, run in enumerate(runs) if what in run) for what in wanted]
    assert order == sorted(order)
    assert flow["concurrency"]["cancel-in-progress"] is False
    publish = flow["jobs"]["publish"]
    assert publish["needs"] == "build" and "github.ref == 'refs/heads/main'" in publish["if"]
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}


def test_both_spellings_are_served(root):
    make, guide = ((root/name).read_text("utf-8") for name in ("Makefile", "CONTRIBUTING.md"))
    assert re.search(r"^nbdev_test:", make, re.M) and "make nbdev_test" in guide and "nbdev-test" in guide
    phony = set(re.search(r"^\.PHONY: (.*)", make, re.M)[1].split())
    rules = set(re.findall(r"^([\w-]+):(?!=)", make, re.M))
    assert phony == rules, phony ^ rules


def test_page_processors_are_found_from_the_root(root, told):
    assert told["package_dir"] == {"": "."} # the editable install's path
    names = re.findall(r'"(tools\.doc_procs):(\w+)"', (root/"pyproject.toml").read_text("utf-8"))
    code = f"from tools.doc_procs import {', '.join(name for _, name in names)}"
    assert len(names) >= 5 and subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_text_has_the_same_line_ends_everywhere(root):
    if not shutil.which("git") or not (root/".git").exists(): pytest.skip("not a clone")
    asked = ["README.md", "slowddim/core.py", "nbs/index.ipynb"]
    command = ["git", "check-attr", "eol", "--", *asked]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [f"{name}: eol: lf" for name in asked]


def test_modules_may_differ_in_line_ends(tool, tmp_path):
    a, b, c = (tmp_path/name for name in "abc")
    texts = (b"x = 1\ny = 2\n", b"x = 1\r\ny = 2\r\n", b"x = 1\r\ny = 3\r\n")
    for path, text in zip((a, b, c), texts): path.write_bytes(text)
    same = tool("check_export").same
    assert same(a, b) and not same(a, c) and not same(a, tmp_path/"none")


def test_the_package_is_a_command(tmp_path, root):
    def run(*words): return subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path)
    done = run("slowddim", "--version")
    assert done.stdout.strip() == f"slowddim {slowddim.__version__}", done.stderr
    assert run("slowddim", "sample", "--n", "many").returncode == 2
    assert "AUTOGENERATED" not in Path(slowddim.__file__).with_name("__main__.py").read_text("utf-8")

"Metadata has one source, settings.ini; everything else agrees with it."
import re
from configparser import ConfigParser
from importlib.metadata import entry_points, metadata

import slowddim


def settings(root):
    ini = ConfigParser(delimiters="=")
    ini.read(root/"settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


def test_name_and_version_agree_everywhere(root):
    cfg, project = settings(root), (root/"pyproject.toml").read_text(encoding="utf-8")
    assert slowddim.__version__ == cfg["version"] == metadata("slowddim")["Version"]
    assert f'name = "{cfg["lib_name"]}"' in project and metadata("slowddim")["Name"] == cfg["lib_name"]
    assert f"## {cfg['version']}" in (root/"CHANGELOG.md").read_text(encoding="utf-8")
    assert not re.search(r"^version\s*=|^dependencies\s*=", project, re.M)


def test_requirements_and_command_come_from_settings(root):
    cfg, meta = settings(root), metadata("slowddim")
    required = {re.split(r"[<>=]", r)[0] for r in meta.get_all("Requires-Dist") if "extra" not in r}
    assert required == {re.split(r"[<>=]", r)[0] for r in cfg["requirements"].split()}
    assert all(re.search(r"[<>=]", r) for r in cfg["requirements"].split()), "every requirement has a range"
    assert {e.name for e in entry_points(group="console_scripts") if e.value.startswith("slowddim")} == {"slowddim"}


def test_nbdev_paths_agree(root):
    cfg, project = settings(root), (root/"pyproject.toml").read_text(encoding="utf-8")
    for key in ("lib_path", "nbs_path", "doc_path", "tst_flags"): assert f'{key} = "{cfg[key]}"' in project
    assert (root/"nbs"/"_quarto.yml").resolve() == (root/"_quarto.yml").resolve()

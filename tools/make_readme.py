"Write README.md from nbs/index.ipynb; with --check, only say whether they agree."
import re
import sys
from configparser import ConfigParser
from pathlib import Path

from nbformat import read

ROOT = Path(__file__).parent.parent


def bases()->tuple[str, str]:
    "Find the addresses of the notebooks' folder in the repository: of its pages, and of its bare files."
    ini = ConfigParser(delimiters="=")
    ini.read(ROOT/"settings.ini", encoding="utf-8")
    cfg = ini["DEFAULT"]
    at = f"{cfg['branch']}/{cfg['nbs_path']}/"
    return f"{cfg['git_url']}/blob/{at}", f"https://raw.githubusercontent.com/{cfg['user']}/{cfg['repo']}/{at}"


def absolute(md:str)->str:
    "Give relative links and images whole addresses: a package index shows the README without the repository."
    pages, files = bases()
    md = re.sub(r"(!\[[^\]]*\]\()(?!\w+:|#)", lambda m: m[1] + files, md)
    return re.sub(r"\]\((?!\w+:|#)", f"]({pages}", md)


def cell_text(cell)->str:
    "Markdown of one notebook cell, its text output included."
    if cell.cell_type == "markdown": return absolute(cell.source)
    if re.match(r"#\|\s*hide", cell.source): return ""
    if re.match(r"#\|\s*echo: false", cell.source): return absolute("".join(cell.outputs[0].data["text/markdown"]))
    outputs = [o.get("data", {}).get("text/plain", "") or o.get("text", "") for o in cell.outputs]
    shown = "".join(f"\n\n```\n{o.strip()}\n```" for o in outputs if o.strip())
    return f"```python\n{cell.source}\n```{shown}"


def main():
    "Convert, then write or compare."
    cells = read(ROOT/"nbs"/"index.ipynb", as_version=4).cells
    text = "<!-- Made from nbs/index.ipynb by tools/make_readme.py: edit the notebook. -->\n\n"
    text += "\n\n".join(filter(None, map(cell_text, cells))) + "\n"
    readme = ROOT/"README.md"
    if "--check" not in sys.argv: readme.write_text(text, encoding="utf-8")
    elif readme.read_text(encoding="utf-8") != text:
        sys.exit("README.md differs from nbs/index.ipynb: run tools/make_readme.py")


if __name__ == "__main__": main()

"Write README.md from nbs/index.ipynb; with --check, only say whether they agree."
import re
import sys
from pathlib import Path

from nbformat import read

ROOT = Path(__file__).parent.parent


def from_top(md:str)->str:
    "Point relative links at the folder of the notebooks."
    return re.sub(r"\]\((?!\w+:|#)", "](nbs/", md)


def cell_text(cell)->str:
    "Markdown of one notebook cell, its text output included."
    if cell.cell_type == "markdown": return from_top(cell.source)
    if re.match(r"#\|\s*hide", cell.source): return ""
    if re.match(r"#\|\s*echo: false", cell.source): return from_top("".join(cell.outputs[0].data["text/markdown"]))
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

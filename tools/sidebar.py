"Write nbs/sidebar.yml from the folders: the course, the reports, the library, then the pages to look things up."
from pathlib import Path

import yaml
from nbformat import read

ROOT = Path(__file__).parent.parent
NBS = ROOT/"nbs"
LAST = ["play", "cheat_sheet", "your_images", "results", "how_we_test", "engineers", "notation", "glossary",
        "bibliography", "changelog"]
PARTS = {1: "I. Build it", 5: "II. Understand it", 9: "III. Steer it"} # first lesson -> part of the course


def title(path:Path)->str: # of a notebook or a Quarto page
    "Read a page's title."
    if path.suffix == ".qmd": return yaml.safe_load(path.read_text("utf-8").split("---")[1])["title"]
    cells = (c.source for c in read(path, as_version=4).cells if c.cell_type == "markdown")
    return next(line[2:].strip() for source in cells for line in source.splitlines() if line.startswith("# "))


def entry(path:Path, before:str="")->dict:
    "Describe one page."
    return dict(text=before + title(path), href=path.relative_to(NBS).as_posix())


def page(name:str)->dict:
    "Describe one page of the top folder."
    return entry(next(p for p in (NBS/f"{name}.ipynb", NBS/f"{name}.qmd") if p.is_file()))


def course()->list[dict]:
    "List the lessons, a section a part."
    lessons = {int(p.name[:2]): p for p in sorted((NBS/"lessons").glob("*.ipynb"))}
    ends = [*list(PARTS)[1:], max(lessons) + 1]
    return [dict(section=part, contents=[entry(p, f"{n}. ") for n, p in lessons.items() if first <= n < end])
            for (first, part), end in zip(PARTS.items(), ends)]


def library()->list[dict]:
    "List the notebooks of the library, a section a folder."
    folders = sorted(p for p in (NBS/"api").iterdir() if p.is_dir() and any(p.glob("*.ipynb")))
    return [dict(section=folder.name.split("_", 1)[1].capitalize(),
                 contents=[entry(path) for path in sorted(folder.glob("*.ipynb"))]) for folder in folders]


def sidebar()->dict:
    "Order all pages."
    reports = [entry(p) for p in sorted((NBS/"reports").glob("*.ipynb"))]
    contents = [page("index") | dict(text="Overview"), *course(), dict(section="Reports", contents=reports),
                dict(section="Library", href="library.ipynb", contents=library()), *map(page, LAST)]
    return dict(website=dict(sidebar=dict(contents=contents)))


def main():
    "Write the file if it changes."
    text = "# Made by tools/sidebar.py.\n" + yaml.safe_dump(sidebar(), sort_keys=False, allow_unicode=True)
    file = NBS/"sidebar.yml"
    if not file.is_file() or file.read_text("utf-8") != text: file.write_text(text, encoding="utf-8")


if __name__ == "__main__": main()

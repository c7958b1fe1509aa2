"What nbdev does to each page of the docs besides its own processing: `doc_procs` in pyproject.toml."
import ast
import os
import re
from functools import lru_cache
from pathlib import Path

from fastcore.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor

PAGE = re.compile(r"`(?:nbs/)?(?:api/\d_\w+/|lessons/)?(\d\d_\w+?)(?:\.ipynb)?`(?!\])") # a page by its file's name


def pages()->dict: # name without ending -> path from the notebooks' folder
    "List the numbered pages."
    root = get_config().nbs_path
    return {p.stem: p.relative_to(root) for p in sorted(root.glob("*/**/*.ipynb"))}


def folder(nb)->Path: # from the notebooks' folder
    "Name the folder of a page."
    return Path(nb.path_).resolve().relative_to(get_config().nbs_path.resolve()).parent


class drop_noise(Processor):
    "Drop run times, which hide API headings from \"On this page\", and directives in prose."
    def cell(self, cell):
        "Clean one cell."
        cell.get("metadata", {}).pop("execution", None)
        if cell.cell_type == "markdown": cell.source = re.sub(r"\A(#\|.*\n)+", "", cell.source)


@lru_cache
def own_methods(page:str)->set: # page of a module, from the site's top
    "List `class.method` of the methods that stand in their class: they have no entry of their own."
    file = get_config().lib_path/f"{Path(page).stem}.py"
    tree = ast.parse(file.read_text("utf-8")) if file.is_file() else ast.Module([], [])
    return {f"{c.name}.{f.name}".lower() for c in tree.body if isinstance(c, ast.ClassDef)
            for f in c.body if isinstance(f, ast.FunctionDef)}


def shown_at(page:str, anchor:str)->str:
    "Send a link to a method to its class where the method has no entry."
    return anchor.partition(".")[0] if anchor[1:] in own_methods(page) else anchor


class link_here(Processor):
    "Link pages named by their files, and make links to this site's own address relative."
    def begin(self):
        "Find out where the page lies."
        cfg = get_config()
        self.folder, self.site, self.pages = folder(self.nb), f"{cfg.doc_host}{cfg.doc_baseurl}/", pages()

    def to(self, path)->str: # relative
        "Find the way from this page to another."
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def link(self, md:str)->str:
        "Link one piece of Markdown, leaving fenced code alone."
        def page(m): return f"[`{m[1]}`]({self.to(self.pages[m[1]])})" if m[1] in self.pages else m[0]
        def here(m): return f"]({self.to(m[1])}{shown_at(m[1], m[2] or '')})"
        md = re.sub(r"\[(`_\w+`)\]\([^)]*\)", r"\1", md) # private names have no entry to link to
        parts = re.split(r"(?ms)(^```.*?^```)", md)
        for i in range(0, len(parts), 2):
            parts[i] = re.sub(rf"\]\({re.escape(self.site)}([^)#]*)(#[^)]*)?\)", here, PAGE.sub(page, parts[i]))
        return "".join(parts)

    def cell(self, cell):
        "Link one cell and its Markdown outputs."
        if cell.cell_type == "markdown": cell.source = self.link(cell.source)
        for out in cell.get("outputs", []):
            md = out.get("data", {}).get("text/markdown")
            if md: out["data"]["text/markdown"] = self.link("".join(md))


def constants(cell)->list: # (name, source)
    "List the public constants that an exported cell sets."
    if cell.cell_type != "code" or not {"export", "exports"} & cell.directives_.keys(): return []
    found = []
    for node in (n for n in ast.parse(cell.source).body if isinstance(n, ast.Assign)):
        names = [t for target in node.targets for t in getattr(target, "elts", [target]) if isinstance(t, ast.Name)]
        found += [(t.id, ast.unparse(node)) for t in names if not t.id.startswith("_")]
    return found


class show_constants(Processor):
    "Give each exported constant an entry, as nbdev gives functions and classes."
    def __init__(self, nb):
        super().__init__(nb)
        self.order = list(nb.cells) # as they are now, before nbdev drops the exported ones
        self.found = [(i, *c) for i, cell in enumerate(nb.cells) for c in constants(cell)]

    def begin(self):
        "Put each entry before the cell that followed its own."
        for i, name, source in reversed(self.found):
            after = next((c for c in self.order[i + 1:] if any(c is o for o in self.nb.cells)), None)
            place = next((k for k, c in enumerate(self.nb.cells) if c is after), len(self.nb.cells))
            text = f"---\n\n### {name}\n\n```python\n{source}\n```"
            self.nb.cells.insert(place, mk_cell(text, "markdown"))
            self.nb.cells[place].directives_ = {}


def records(cell)->dict: # class name -> its lines down to the last field
    "Find the named tuples and dataclasses of an exported cell, and classes that are made by `__new__`."
    if cell.cell_type != "code" or not {"export", "exports"} & cell.directives_.keys(): return {}
    found, lines = {}, cell.source.splitlines()
    for node in ast.parse(cell.source).body:
        if not isinstance(node, ast.ClassDef): continue
        marks = " ".join(map(ast.unparse, [*node.bases, *node.decorator_list]))
        fields = [f for f in node.body if isinstance(f, ast.AnnAssign)]
        if fields and re.search(r"NamedTuple|dataclass|BaseOutput", marks):
            found[node.name] = "\n".join(lines[node.lineno - 1:fields[-1].end_lineno])
        new = next((f for f in node.body if getattr(f, "name", "") == "__new__"), None)
        if new: found[node.name] = "\n".join([lines[node.lineno - 1], *lines[new.lineno - 1:new.body[0].lineno - 1]])
    return found


class show_records(Processor):
    "Show a record with its fields and what is said of them, where nbdev has only a signature."
    def __init__(self, nb):
        super().__init__(nb)
        self.found = {k: v for cell in nb.cells for k, v in records(cell).items()}

    def cell(self, cell):
        "Change the entry of a record."
        shown = re.search(r"^show_doc\((\w+)\)", cell.source, re.M) if cell.cell_type == "code" else None
        if not shown or shown[1] not in self.found: return
        for out in cell.get("outputs", []):
            md = "".join(out.get("data", {}).get("text/markdown", ""))
            fields = f"```python\n{self.found[shown[1]]}\n```"
            out["data"]["text/markdown"] = re.sub(r"(?ms)^```python\n.*?^```", lambda m: fields, md, count=1)


class raw_films(Processor):
    "Hand films over as raw Markdown: for HTML outputs with a script Quarto loads libraries from another host."
    def cell(self, cell):
        "Change the outputs of one cell."
        for out in cell.get("outputs", []):
            html = "".join(out.get("data", {}).get("text/html", ""))
            if "slowddim-film" not in html: continue
            del out["data"]["text/html"]
            out["data"]["text/markdown"] = f"```{{=html}}\n{html}\n```"

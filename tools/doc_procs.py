"What nbdev does to each page of the docs besides its own processing: `doc_procs` in pyproject.toml."
import ast
import json
import os
import re
import struct
from functools import lru_cache
from pathlib import Path

from fastcore.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor

# a page by its file's name
PAGE = re.compile(r"`(?:nbs/)?(?:api/\d_\w+/|lessons/|reports/)?(\d\d_\w+?)(?:\.ipynb)?`(?!\])")


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
def without_entry(page:str)->tuple[set, set]: # page of a module, from the site's top -> methods, names that stay inside
    "List what a module has and its page has no entry for: methods that stand in their class, names not in `__all__`."
    file = get_config().lib_path/f"{Path(page).stem}.py"
    body = ast.parse(file.read_text("utf-8")).body if file.is_file() else []
    methods = {f"{c.name}.{f.name}".lower() for c in body if isinstance(c, ast.ClassDef)
               for f in c.body if isinstance(f, ast.FunctionDef)}
    public = {name for n in body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
              for name in ast.literal_eval(n.value)}
    inside = {n.name.lower() for n in body if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name not in public}
    return methods, inside


def shown_at(page:str, anchor:str)->str:
    "Send a link to a method to its class, and one to a name without an entry to the page."
    methods, inside = without_entry(page)
    if anchor[1:].partition(".")[0] in inside: return ""
    return anchor.partition(".")[0] if anchor[1:] in methods else anchor


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
        md = re.sub(r"\[\[(`[^`]+`)\]\([^)]*\)\]\(", r"[\1](", md) # nbdev links a name inside a link too
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


SENTENCE = re.compile(r"(?<=[.:!?])\s+(?=[A-Z*`])")
DRAWN = dict(show_images="images", image_grid="a sheet of images", open="a sheet of images",
             show_strip="images, a column for each moment or setting", plot_losses="losses of training and test")


def plain(md:str)->str: # Markdown -> words to be read aloud
    "Drop links, code marks and the backslashes of formulas, and what an attribute cannot hold."
    md = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", md)
    md = re.sub(r"\\(\w+)\{?", r" \1 ", re.sub(r"\\[,;:!]", " ", md)).replace("\\", "")
    md = re.sub(r"[`*${}]", "", md).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}").replace('"', "")
    return " ".join(md.split())


def calls(source:str)->list: # (name of what is called, the call), in the order of the text
    "List the calls of a cell; none where it is more than Python."
    try: found = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    except SyntaxError: return []
    return [(getattr(n.func, "attr", getattr(n.func, "id", "")), n)
            for n in sorted(found, key=lambda n: (n.end_lineno, n.end_col_offset))]


def said_in(source:str, *names:str)->list: # of a cell; names of arguments
    "Find texts that stand in calls of a cell as they are; those that are made of values are left out."
    found = []
    for name, call in calls(source):
        found += [k.value for k in call.keywords if k.arg in names]
        if name.removeprefix("set_") in names: found += call.args[:1]
    texts = [s.value for s in found if isinstance(s, ast.Constant) and isinstance(s.value, str)]
    return list(dict.fromkeys(texts))


def drawn(source:str)->str: # what a cell says of what it draws, "" if nothing
    "Take the titles of the plots, or the names of their axes."
    titles, x, y = (said_in(source, *names) for names in (("title", "suptitle"), ("xlabel",), ("ylabel",)))
    if titles or not x or not y: return "; ".join(titles)
    return f"{', '.join(y)} by {', '.join(x)}"


def kind(source:str)->str: # what a cell draws, by the function that draws it
    "Say what sort of image it is, where nothing better is known."
    return next((DRAWN[name] for name, _ in reversed(calls(source)) if name in DRAWN), "a figure")


def introduction(md:str)->str: # Markdown before an image -> its last sentences
    "Take what leads to an image: the end of the last paragraph, as much as fits a breath."
    text = re.sub(r"(?ms)^(```.*?^```|\$\$.*?\$\$|:::.*?$|#{1,6} .*?$|\|.*?$)", "\n\n", md)
    paragraphs = [p for p in re.split(r"\n\s*\n", text) if p.strip()]
    said = ""
    for sentence in reversed(SENTENCE.split(plain(paragraphs[-1])) if paragraphs else []):
        if said and len(said) + len(sentence) > 180: break
        said = f"{sentence} {said}".strip()
    return said.rstrip(":")


def pixels(path:Path)->dict: # of a PNG or GIF; empty for any other file
    "Read how large an image is, so that the page does not jump while it comes."
    if path.suffix not in (".png", ".gif") or not path.is_file(): return {}
    with open(path, "rb") as file: head = file.read(24)
    width, height = struct.unpack(">II", head[16:24]) if path.suffix == ".png" else struct.unpack("<HH", head[6:10])
    return dict(width=width, height=height)


class describe_images(Processor):
    "Give each image words for those who do not see it: its title, or what was said just before it."
    def begin(self):
        "Nothing was said yet."
        self.heading, self.said, self.folder = "", "", Path(getattr(self.nb, "path_", ".")).parent

    def read(self, md:str):
        "Keep what may introduce an image."
        self.heading = (re.findall(r"(?m)^#{1,4} (.+?)(?: \{.*\})?$", md) or [self.heading])[-1]
        self.said = introduction(md)

    def words(self, source:str)->str:
        "Describe an image of a cell."
        what = next(filter(None, (drawn(source), self.said, kind(source))))
        between = " " if self.heading[-1:] in ("", "?", "!") else ": "
        return plain(f"{self.heading}{between}{what}")

    def in_code(self, cell):
        "Describe what a cell draws, each output by itself."
        source, alts = "\n".join(s for s in cell.source.splitlines() if not s.startswith("#|")), []
        for out in cell.get("outputs", []):
            data = out.get("data", {})
            image = any(k.startswith("image/") for k in data)
            alts.append(self.words(source) if image else "")
            film = "".join(data.get("text/html", ""))
            if 'alt="animation' in film: data["text/html"] = film.replace('alt="', f'alt="{self.words(source)}: ', 1)
            if "text/markdown" in data:
                self.read("".join(data["text/markdown"]))
                if cell.source.count("show_doc(") == 0: self.said = ""
        if any(alts) and "#| fig-alt:" not in cell.source:
            cell.source = f"#| fig-alt: {json.dumps(alts)}\n{cell.source}"

    def in_prose(self, cell):
        "Describe images of the text; a badge is no figure, and a GIF stands still for those who ask for rest."
        def badge(m): return f"[{m[0]}]{{.badge-link}}"
        def figure(m):
            size = "".join(f' {k}="{v}"' for k, v in pixels(self.folder/m[2]).items())
            if not m[2].endswith(".gif"): return f'{m[0]}{{fig-alt="{plain(m[1])}"{size}}}'
            still = m[2].replace(".gif", "_still.png")
            return (f'```{{=html}}\n<figure class="figure"><picture>\n'
                    f'<source media="(prefers-reduced-motion: reduce)" srcset="{still}">\n'
                    f'<img src="{m[2]}" alt="{plain(m[1])}" class="img-fluid figure-img"{size}></picture>\n'
                    f"<figcaption>{m[1]}</figcaption></figure>\n```")
        text = re.sub(r"(?m)^\[!\[[^\]]+\]\([^)]+\)\]\([^)]+\)$", badge, cell.source)
        cell.source = re.sub(r"(?m)^!\[([^\]]+)\]\(([^)\s]+)\)$", figure, text)

    def cell(self, cell):
        "Describe the images of one cell."
        if cell.cell_type == "code": self.in_code(cell)
        if cell.cell_type != "markdown": return
        self.in_prose(cell)
        self.read(cell.source)


class short_names(Processor):
    "Name types in signatures as a reader writes them: `Tensor`, not `torch.Tensor`; `Step`, not `slowddim.steps.Step`."
    def cell(self, cell):
        "Change the entries of one cell: the first block of each, but for what is said behind `#`."
        if cell.cell_type != "code" or "show_doc(" not in cell.source: return
        for out in cell.get("outputs", []):
            md = "".join(out.get("data", {}).get("text/markdown", ""))
            if md: out["data"]["text/markdown"] = re.sub(r"(?ms)^```python\n.*?^```", self.short, md, count=1)

    def short(self, block)->str:
        "Drop the modules before names of types, and the empty line of an empty signature."
        lines = [line.partition("#") for line in block[0].replace("(\n)", "()").splitlines()]
        return "\n".join(re.sub(r"\b(?:\w+\.)+([A-Z]\w*)", r"\1", code) + mark + said for code, mark, said in lines)


class set_apart(Processor):
    "Put blank lines around Markdown outputs, which Quarto joins without, and keep both dashes of an option."
    def cell(self, cell):
        "Change one cell: Quarto boxes cells with options it does not know, and headings in a box miss in the contents."
        cell.source = re.sub(r"(?m)^#\| ?(exec_doc|exports?)\b.*\n?", "", cell.source)
        for out in cell.get("outputs", []):
            md = "".join(out.get("data", {}).get("text/markdown", ""))
            if not md: continue
            parts = re.split(r"(?ms)(^```.*?^```|`[^`\n]+`)", md)
            parts[::2] = [re.sub(r"(?<![-\\])--(?=\w)", r"\\-\\-", part) for part in parts[::2]]
            out["data"]["text/markdown"] = "\n\n{}\n\n".format("".join(parts).strip("\n"))

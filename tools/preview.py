"Render the processed pages with pandoc, where Quarto is not at hand: same settings, same sidebar, same pages."
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pypandoc
import yaml
from nbdev.config import nbpath2html
from page_markdown import Page
from search_index import entries

THEME = Path(__file__).parent/"theme"
PANDOC = pypandoc.get_pandoc_path() # called directly: pypandoc asks for its version and formats each time
PAGES = (".ipynb", ".qmd")
FORMAT = "markdown-smart+autolink_bare_uris" # what Quarto reads, as pandoc calls it


def merged(low:dict, high:dict)->dict:
    "Merge two settings; `high` wins."
    def one(k, v): return merged(low[k], v) if isinstance(v, dict) and isinstance(low.get(k), dict) else v
    return low | {k: one(k, v) for k, v in high.items()}


def settings(source:Path)->dict: # folder with _quarto.yml
    "Read the site's settings as Quarto does."
    main, extra = yaml.safe_load((source/"_quarto.yml").read_text("utf-8")), {}
    for name in main.get("metadata-files", []):
        if (source/name).is_file(): extra = merged(extra, yaml.safe_load((source/name).read_text("utf-8")))
    return merged(extra, main)


def html_path(path:Path)->Path: # of a page, relative; its HTML
    "Name the page that a source becomes."
    return nbpath2html(path) if path.suffix == ".ipynb" else path.with_suffix(".html")


def colours(scss:str, head:str)->str:
    "Turn the variables of a theme into CSS."
    found = re.findall(r"^\$([\w-]+):\s*(.+?)(?:\s*!default)?;", scss, re.M)
    return head + " {\n" + "".join(f"  --site-{name}: {value};\n" for name, value in found) + "}\n"


def links_of(contents:list)->list[dict]:
    "Flatten the sidebar into reading order."
    flat = []
    for item in contents:
        if "href" in item: flat.append(dict(href=item["href"], text=item.get("text") or item["section"]))
        flat += links_of(item.get("contents", []))
    return flat


def menu(contents:list, here:str, root:str, depth:int=0)->str: # href of this page; the way to the site's top
    "Draw the sidebar."
    def link(item, text):
        now = ' class="current" aria-current="page"' if item["href"] == here else ""
        return f'<a href="{root}{html_path(Path(item["href"])).as_posix()}"{now}>{html.escape(text)}</a>'
    items = []
    for item in contents:
        if "contents" not in item: items.append(f"<li>{link(item, item['text'])}</li>")
        else:
            inside = [p["href"] for p in links_of([item])]
            is_open = " open" if depth == 0 or here in inside else ""
            name = link(item, item["section"]) if "href" in item else html.escape(item["section"])
            items.append(f"<li><details{is_open}><summary>{name}</summary>"
                         f"{menu(item['contents'], here, root, depth + 1)}</details></li>")
    return f"<ul>{''.join(items)}</ul>"


class Site:
    "The pages of one folder, rendered into another."
    def __init__(self, source:Path, out:Path): # processed pages, with _quarto.yml; where the site goes
        self.source, self.out, self.settings = source, out, settings(source)
        self.website, self.html = self.settings["website"], self.settings["format"]["html"]
        self.contents = self.website["sidebar"]["contents"]
        self.order, self.made, self.stamps = links_of(self.contents), set(), {}
        parts = THEME/"page.html", THEME/"callouts.lua", source/"scroll.lua"
        self.theme = "".join(part.read_text("utf-8") for part in parts)
        names = [p.relative_to(source) for p in sorted(source.rglob("*")) if self.wanted(p)]
        self.pages = [p for p in names if p.suffix in PAGES]
        self.files = [p for p in names if p.suffix not in (*PAGES, ".yml", ".scss", ".lua")]

    def wanted(self, path:Path)->bool:
        "Leave out folders, and what starts with a dot or an underscore."
        parts = path.relative_to(self.source).parts
        hidden = any(p[0] in "._" for p in parts) or any(p.endswith("_files") for p in parts[:-1])
        return path.is_file() and not hidden

    def variables(self, page:Path)->dict: # values for the template
        "Say what stands around one page."
        href, root = page.as_posix(), "../"*(len(page.parts) - 1)
        at = next((i for i, p in enumerate(self.order) if p["href"] == href), None)
        def near(i, name, form):
            if at is None or not 0 <= i < len(self.order): return ""
            to = html_path(Path(self.order[i]["href"])).as_posix()
            return f'<a class="{name}" href="{root}{to}">{form.format(html.escape(self.order[i]["text"]))}</a>'
        repo, branch = self.website["repo-url"], self.website["repo-branch"]
        home = {"home": "1"} if href == "index.ipynb" else {}
        made_of = "CHANGELOG.md" if href == "changelog.qmd" else f"{self.website['repo-subdir']}/{href}"
        site, card = self.website["site-url"].rstrip("/"), self.website["open-graph"]
        seen = {"address": f"{site}/{html_path(page).as_posix()}", "card": site + card["image"],
                "card-alt": html.escape(card["image-alt"])}
        return dict(**home, **seen, root=root, sidebar=menu(self.contents, href, root), repo=repo,
                    source=f"{repo}/blob/{branch}/{made_of}",
                    before=near((at or 0) - 1, "before", "‹ {}"), after=near((at or 0) + 1, "after", "{} ›"),
                    footer=self.website["page-footer"]["left"], **{"site-title": self.website["title"]},
                    **{"toc-title": self.html["toc-title"]})

    def pandoc(self, text:str, variables:dict)->str: # Markdown; template variables
        "Convert one page."
        filters = [f"--lua-filter={path}" for path in (THEME/"callouts.lua", self.source/"scroll.lua")]
        args = [PANDOC, "--from", FORMAT, "--to", "html5", "--template", str(THEME/"page.html"), *filters,
                "--mathml", "--toc", "--toc-depth", str(self.html["toc-depth"]), "--wrap", "none",
                "--columns", "9999", "--standalone"]
        for name, value in variables.items(): args += ["-V", f"{name}={value}"]
        return subprocess.run(args, input=text, encoding="utf-8", capture_output=True, check=True).stdout

    def linked(self, text:str, page:Path)->str:
        "Point links at sources of pages to the pages."
        def to(m):
            target = Path(os.path.normpath(page.parent/m[1]))
            if target not in self.pages: return m[0]
            return f'href="{Path(os.path.relpath(html_path(target), page.parent)).as_posix()}{m[2] or ""}"'
        return re.sub(r'href="(?!\w+:)([^"#]+\.(?:ipynb|qmd))(#[^"]*)?"', to, text)

    def text(self, page:Path)->str:
        "Read one page as Markdown, writing its pictures."
        if page.suffix != ".ipynb": return (self.source/page).read_text("utf-8")
        source = Page(self.source/page, self.out/html_path(page))
        text = source.markdown()
        self.made.update(source.pictures)
        return text

    def render(self, page:Path)->list[dict]: # its entries for the search box
        "Write one page, and its Markdown beside it; leave a page that would not change."
        out, text = self.out/html_path(page), self.text(page)
        out.parent.mkdir(parents=True, exist_ok=True)
        front = yaml.safe_load(text.split("---")[1])
        summary = str(front.get("description") or self.website["description"])
        extra = {"summary": html.escape(summary), "title-plain": html.escape(front["title"]), "toc": "1"}
        variables = self.variables(page) | extra
        stamp = hashlib.sha256(repr((text, variables, self.theme)).encode()).hexdigest()
        if self.stamps.get(page.as_posix()) == stamp and out.is_file(): done = out.read_text("utf-8")
        else:
            done = self.linked(self.pandoc(text, variables), page)
            out.write_text(done, encoding="utf-8")
        self.stamps[page.as_posix()] = stamp
        plain = re.sub(r"(?ms)^(`{3,}) \{=html\}\n.*?^\1$\n*|^:{3,}[^\n]*\n", "", text)
        self.write(f"{html_path(page)}.md", plain)
        self.made.add(out)
        found = entries(done, html_path(page).as_posix(), front["title"])
        found[0]["text"] = f"{summary} {found[0]['text']}"
        return found

    def write(self, name:str, text:str):
        "Write one of the smaller files."
        (self.out/name).write_text(text, encoding="utf-8")
        self.made.add(self.out/name)

    def copy(self, source:Path, name:Path):
        "Copy a file that pages use."
        (self.out/name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, self.out/name)
        self.made.add(self.out/name)

    def build(self)->int: # how many pages
        "Write everything, and remove what an earlier build left."
        self.out.mkdir(parents=True, exist_ok=True)
        stamps = self.out/".stamps.json"
        self.stamps = json.loads(stamps.read_text("utf-8")) if stamps.is_file() else {}
        theme = self.html["theme"]
        self.write("theme.css", "".join(colours((self.source/file).read_text("utf-8"), head) for t, head in
                                        [("light", ":root"), ("dark", ':root[data-theme="dark"]')]
                                        for file in theme[t][1:]))
        for name in ("preview.css", "preview.js"): self.copy(THEME/name, Path(name))
        for file in self.files: self.copy(self.source/file, file)
        with ThreadPoolExecutor(2) as pool: found = [e for page in pool.map(self.render, self.pages) for e in page]
        self.write("search.js", f"window.searchIndex={json.dumps(found, ensure_ascii=False, separators=(',', ':'))};\n")
        self.write(stamps.name, json.dumps(self.stamps))
        for old in [p for p in self.out.rglob("*") if p.is_file() and p not in self.made]: old.unlink()
        return len(self.pages)

"Turn a processed notebook into the Markdown that pandoc reads, with its pictures as files."
import base64
import re
import struct
from pathlib import Path

import yaml
from nbformat import read

FILES = {"image/svg+xml": "svg", "image/png": "png", "image/gif": "gif", "image/jpeg": "jpg"}
KINDS = ("text/html", *FILES, "text/markdown", "text/plain") # what is shown, best first


def options(source:str)->tuple[dict, str]: # cell options, the rest
    "Split a cell into its `#|` lines and its code."
    lines = source.splitlines()
    n = next((i for i, line in enumerate(lines) if not line.startswith("#|")), len(lines))
    found = {}
    for line in lines[:n]:
        key, _, value = line[2:].partition(":")
        found[key.strip()] = yaml.safe_load(value) if value.strip() else True
    return found, "\n".join(lines[n:]).strip("\n")


def fenced(text:str, attrs:str)->str:
    "Fence text so that fences inside it do no harm."
    ticks = "`"*max(3, 1 + max((len(m) for m in re.findall(r"`+", text)), default=0))
    return f"{ticks} {{{attrs}}}\n{text}\n{ticks}"


def div(text:str, attrs:str)->str: return f":::::: {{{attrs}}}\n{text}\n::::::"


def html_block(text:str)->str: return fenced(text, "=html")


def size_of(kind:str, data:bytes, shown:dict)->str: # attributes of <img>
    "Say how large a picture is, so that the page does not jump while loading."
    if shown.get("width"): return f' width="{shown["width"]}" height="{shown["height"]}"'
    if kind == "image/png": return ' width="{}" height="{}"'.format(*struct.unpack(">II", data[16:24]))
    return ""


def escaped(text:str)->str: return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


class Page:
    "One notebook on its way to Markdown; pictures go to `folder`, beside the page."
    def __init__(self, path:Path, out:Path): # processed notebook; HTML file to be
        self.cells, self.out = read(path, as_version=4).cells, out
        self.folder, self.pictures = out.with_name(f"{out.stem}_files"), []

    def picture(self, kind:str, data:str, how:dict, shown:dict)->str:
        "Write a picture and refer to it."
        raw = data.encode() if kind == "image/svg+xml" else base64.b64decode(data)
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder/f"{len(self.pictures) + 1:02}.{FILES[kind]}"
        self.pictures.append(file)
        file.write_bytes(raw)
        alt = escaped(str(how.get("fig-alt") or how.get("fig-cap") or "what the cell above shows"))
        text = f'<img src="{self.folder.name}/{file.name}" alt="{alt}" loading="lazy"{size_of(kind, raw, shown)}>'
        if how.get("fig-cap"): text = f"<figure>{text}<figcaption>{escaped(str(how['fig-cap']))}</figcaption></figure>"
        return html_block(text)

    def output(self, out, how:dict)->str:
        "Show one output of a cell."
        if out.output_type == "stream":
            return div(fenced(out.text.rstrip(), ".text"), f".cell-output .cell-output-{out.name}")
        data = out.get("data", {})
        kind = next((k for k in KINDS if k in data), None)
        if kind is None: return ""
        text = "".join(data[kind])
        if kind == "text/markdown" and how.get("output") == "asis": return text
        if kind in FILES: shown = self.picture(kind, text, how, out.get("metadata", {}).get(kind, {}))
        elif kind == "text/html": shown = html_block(text)
        else: shown = text if kind == "text/markdown" else fenced(text.rstrip(), ".text")
        return div(shown, ".cell-output .cell-output-display")

    def code(self, cell)->str:
        "Show a code cell: its code, maybe folded, and what came out."
        how, source = options(cell.source)
        if how.get("include") is False: return ""
        parts = []
        if how.get("echo", True) and source.strip():
            code = fenced(source, ".python .cell-code")
            fold = how.get("code-fold", False)
            if fold in (True, "true", "show"):
                head = escaped(str(how.get("code-summary", "Code")))
                opening = f'<details class="code-fold"{" open" if fold == "show" else ""}><summary>{head}</summary>'
                code = "\n\n".join([html_block(opening), code, html_block("</details>")])
            parts.append(code)
        outputs = cell.get("outputs", []) if how.get("output", True) else []
        alts = how.get("fig-alt") if isinstance(how.get("fig-alt"), list) else [how.get("fig-alt")]*len(outputs)
        parts += [self.output(out, how | {"fig-alt": alt}) for out, alt in zip(outputs, alts)]
        body = "\n\n".join(filter(None, parts))
        if not body or how.get("output") == "asis": return body
        classes = " ".join(f".{c}" for c in str(how.get("classes", "")).split())
        return f"::::::: {{.cell {classes}}}\n{body}\n:::::::"

    def markdown(self)->str:
        "Join the cells."
        shown = {"raw": lambda c: c.source.strip(), "markdown": lambda c: c.source, "code": self.code}
        return "\n\n".join(filter(None, (shown[c.cell_type](c) for c in self.cells))) + "\n"

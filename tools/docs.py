"Build the docs site in _docs: with Quarto where it is installed, else a preview of the same pages with pandoc."
import argparse
import html
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
NBS = ROOT/"nbs"
sys.path[:0] = [str(ROOT/"tools"), str(ROOT)] # the modules beside this one, and tools.doc_procs
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("MPLBACKEND", "agg")


def prepare():
    "Make what is made of other files: the sidebar, and the changelog's page."
    import sidebar
    changes = (ROOT/"CHANGELOG.md").read_text("utf-8").split("\n", 1)[1].strip()
    head = "---\ntitle: Changes\ndescription: What each version brought.\nrepo-actions: false\n---"
    text = f"{head}\n\n<!-- Made from CHANGELOG.md. -->\n\n{changes}\n"
    page = NBS/"changelog.qmd"
    if not page.is_file() or page.read_text("utf-8") != text: page.write_text(text, encoding="utf-8")
    sidebar.main()


def forget_stale_pages():
    "Drop the processed pages if they are older than what pages read beside their own notebook."
    read = [*ROOT.glob("results/*.json"), *ROOT.glob("slowddim/*.py"), ROOT/"tools"/"doc_procs.py"]
    cache = ROOT/"_proc"
    if cache.is_dir() and cache.stat().st_mtime < max(p.stat().st_mtime for p in read): shutil.rmtree(cache)


def process(n_workers:int=1)->Path: # folder of the processed pages
    "Let nbdev process the notebooks, without the part of its command that installs Quarto."
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    os.chdir(ROOT)
    refresh_quarto_yml()
    return proc_nbs(str(NBS), n_workers=n_workers)


def index_again(out:Path):
    "Write Quarto's search index again: an entry for each function, and formulas once."
    from search_index import entries
    file = out/"search.json"
    known = {entry["href"].partition("#")[0]: entry for entry in json.loads(file.read_text("utf-8"))}
    found = []
    for page, known_entry in known.items():
        for entry in entries((out/page).read_text("utf-8"), page, known_entry["title"]):
            entry["text"] = html.escape(entry["text"], quote=False)
            found.append(dict(objectID=entry["href"], **entry, crumbs=known_entry.get("crumbs", [])))
    file.write_text(json.dumps([e for e in found if e["text"]], ensure_ascii=False), encoding="utf-8")


def preview(out:Path):
    "Render with pandoc."
    from preview import Site
    n = Site(process(), out).build()
    print(f"No quarto on PATH: {n} pages rendered as a preview with pandoc.")


def main():
    "Prepare, render, and say where to look."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT/"_docs", help="folder of the preview (Quarto uses _docs)")
    parser.add_argument("--preview", action="store_true", help="render the preview even where Quarto is installed")
    args = parser.parse_args()
    prepare()
    forget_stale_pages()
    out = args.out.resolve()
    if shutil.which("quarto") and not args.preview:
        subprocess.run([Path(sys.executable).parent/"nbdev-docs", "--n-workers", "2"], cwd=ROOT, check=True)
        out = ROOT/"_docs"
        index_again(out)
        print("Rendered with quarto.")
    else: preview(out)
    from play_assets import add
    print(add(out))
    print(f"Open {out/'index.html'}, or run make docs-serve")


if __name__ == "__main__": main()

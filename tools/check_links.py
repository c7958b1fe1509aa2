"Check that links inside a built site lead somewhere and nothing comes from elsewhere: `tools/check_links.py [folder]`."
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from search_index import read_page


def inside(link:str)->bool: # does it stay on the site?
    "Tell links to other hosts from our own."
    return not urlsplit(link).scheme and not link.startswith("//")


def broken(site:Path)->list[str]: # "page: link", one line each
    "Follow every link and source of every page."
    pages = {p: read_page(p.read_text("utf-8")) for p in sorted(site.rglob("*.html"))}
    faults = []
    for path, page in pages.items():
        for link in filter(inside, page.links + page.sources):
            place, anchor = urldefrag(link)
            target = (path.parent/unquote(place)).resolve() if place else path
            if target.is_dir(): target /= "index.html"
            lost = anchor and target in pages and unquote(anchor) not in pages[target].ids
            if not target.is_file() or lost: faults.append(f"{path.relative_to(site)}: {link}")
    return faults


def foreign(site:Path)->list[str]: # "page: source"
    "List what pages would fetch from other hosts."
    pages = {p: read_page(p.read_text("utf-8")) for p in sorted(site.rglob("*.html"))}
    return [f"{path.relative_to(site)}: {s}" for path, page in pages.items() for s in page.sources
            if not inside(s) and not s.startswith("data:")]


def main():
    "List what is broken or comes from elsewhere; fail if anything is."
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "_docs").resolve()
    faults = [*broken(site), *(f"from another host: {line}" for line in foreign(site))]
    sys.exit("\n".join([f"{len(faults)} faults", *faults]) if faults else 0)


if __name__ == "__main__": main()

"Split a rendered page into the sections that the search box looks through."
from html.parser import HTMLParser
from unicodedata import name

SILENT = {"script", "style", "nav", "aside", "header", "footer", "svg", "button", "summary", "title",
          "annotation"} # the source of a formula that stands before it already
VOID = {"meta", "link", "img", "br", "hr", "input", "col"}


class Sections(HTMLParser):
    "Collect a page's text by the heading it stands under, and all ids and links."
    def __init__(self):
        super().__init__()
        self.found = [["", "", []]] # anchor, heading, text
        self.ids, self.links, self.sources = set(), [], []
        self.open, self.heading = [], None

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"): self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("href"): self.links.append(attrs["href"])
        elif attrs.get("src") or (tag == "link" and attrs.get("href")):
            self.sources.append(attrs.get("src") or attrs["href"])
        if tag in SILENT: self.open.append(tag)
        anchor = attrs.get("id") or attrs.get("data-anchor-id") # of the heading; Quarto gives the id to its section
        if tag in ("h2", "h3") and anchor and not self.open:
            self.heading = tag
            self.found.append([anchor, "", []])

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]: self.open.pop()
        if tag == self.heading: self.heading = None

    def handle_data(self, data):
        if self.open: return
        if self.heading: self.found[-1][1] += data
        else: self.found[-1][2].append(data)


def read_page(html:str)->Sections:
    "Parse one page."
    page = Sections()
    page.feed(html)
    return page


def words(text:str)->str:
    "Keep what somebody may look for: everything with a letter in it, no bare numbers and brackets."
    return " ".join(word for word in text.split() if any(c.isalpha() for c in word))


def spelled(text:str)->str: # text -> its Greek letters by name, each once
    "Spell Greek letters, so that who types \"sigma\" finds the formula."
    found = dict.fromkeys(c for c in text if "\N{GREEK CAPITAL LETTER ALPHA}" <= c <= "\N{GREEK SMALL LETTER OMEGA}")
    return " ".join(dict.fromkeys(name(c).split()[-1].lower() for c in found))


def entries(html:str, href:str, title:str)->list[dict]:
    "List what can be found on a page."
    found = []
    for anchor, heading, parts in read_page(html).found:
        text = "".join(parts)
        found.append(dict(href=href + (f"#{anchor}" if anchor else ""), title=title, section=heading.strip(),
                          text=f"{words(text)} {spelled(text)}".strip()))
    return found

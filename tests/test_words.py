"The pages, names in prose, messages and docstrings use the field's words, so that a reader can go on to papers."
import io
import re
import tokenize

import nbformat
import pytest

COUNT = r"(\d[\d,]*|two|five|ten|twenty|fifty|hundred|thousand|few|many|more|fewer|mean)"
WORDS = { # what this project does not write -> what it writes
    r"\bdice\b|\bthrow(s|ing|n)? (dice|noise)\b": "noise, stochastic",
    r"\bpictures?\b": "image; sample",
    rf"\b(network|model) calls?\b|\bcalls? of the (network|model)\b|\b{COUNT} calls\b": "network evaluations, NFE",
    r"\bnetworks? (says?|hears?|answers?|thinks?|guess\w*)\b|\bnetwork is told\b": "the network predicts, receives",
    r"\bguess(es|ed)?\b": "the predicted x_0, the estimate",
    r"\bjudge[sd]?\b|\beyes\b|\b(strict|plain|both|two) readers?\b": "feature extractor, classifier",
    r"\bwalk(s|ed|ing)?\b": "trajectory, interpolation, loop",
    r"\brooms?\b|\bhouses?\b": "module, package",
    r"\b(images|samples|entries) a cell\b": "images for a setting",
    r"\bleaps?\b": "last step",
    r"\bcrowds?\b": "distribution, set",
    r"\b(its|their|the) paper is (grey|white)\b|\bink on paper\b": "background",
    r"\bcodes\b": "latents",
    r"\blaws?\b": "property, identity",
}
# Not looked for, because a pattern cannot tell the private sense from the usual one: "call" of a function, "cell" of
# a notebook, "way", "numbers", "code" of a program, "goes". Looked for, and allowed in its usual sense:
ALLOWED = {
    r"\bexit codes\b": "of the command line",
    r"\broom for\b": "on a disk or in a window",
    r"\bguess=": "the keyword of `encode`",
}
# code, formulas, addresses, fields of f-strings
SKIPPED = r"(?s)```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|<[^>]*>|\{[^{}]*\}|https?://\S+"
PAGES = ("lessons/*.ipynb", "*.ipynb", "api/*/*.ipynb") # reports may quote


def prose_in_code(source): # comments, and strings of more than one word: a single word is a key or a name
    source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)
    kinds = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source + "\n").readline):
        if token.type not in kinds: continue
        if token.string.startswith("#|"): continue # a directive
        if token.type == tokenize.COMMENT or " " in token.string.strip(): yield token.string


def found(text): # forbidden words with a bit of what is around them
    text = re.sub(SKIPPED, " ", text)
    for usual in ALLOWED: text = re.sub(usual, " ", text, flags=re.I)
    for pattern, instead in WORDS.items():
        for m in re.finditer(pattern, text, re.I):
            around = text[max(0, m.start() - 40):m.end() + 30].replace("\n", " ")
            yield f"{m[0]!r} in {around!r}: write {instead}"


def cells(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown": yield cell.source
        if cell.cell_type == "code": yield from prose_in_code(cell.source)


def notebooks(root): return [p for pattern in PAGES for p in sorted((root/"nbs").glob(pattern))]


def test_pages_use_the_fields_words(root):
    said = [f"{path.relative_to(root)}: {hit}" for path in notebooks(root)
            for text in cells(path) for hit in found(text)]
    assert not said, f"{len(said)} places\n" + "\n".join(said)


def test_messages_and_docstrings_use_the_fields_words(root):
    said = []
    for path in sorted((root/"slowddim").glob("[!_]*.py")):
        said += [f"{path.name}: {hit}" for text in prose_in_code(path.read_text("utf-8")) for hit in found(text)]
    assert not said, f"{len(said)} places\n" + "\n".join(said)


@pytest.mark.parametrize("text", [
    "less dice is better", "1,000 pictures", "ten network calls", "the network says so", "a guess of x_0", "the judge",
    "walking from A to B", "one more room", "the last leap"])
def test_the_dialect_is_noticed(text): assert list(found(text))


@pytest.mark.parametrize("text", [
    "`encode(guess='last')`", "[results](pictures.npz)", "$\\text{law}$", "a function call",
    "exit codes of the command", "there is room for more"])
def test_usual_words_are_not(text): assert not list(found(text))


def test_only_prose_is_looked_at():
    source = "picture = load('pictures')  # one picture\nraise ValueError('no pictures here')"
    assert list(prose_in_code(source)) == ["# one picture", "'no pictures here'"]

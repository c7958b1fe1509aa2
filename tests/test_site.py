"""The docs site: every link followed, every page weighed, and looked at in a browser.

The preview is built for it; with `SITE=folder` a site that is there is looked at instead, Quarto's for example."""
import functools
import gzip
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("pypandoc", reason="needs pypandoc_binary, of the development extra")
pytest.importorskip("nbdev", reason="needs nbdev, of the development extra")
WIDTHS = (1400, 400) # pixels, all pages; some also at those between
MORE_WIDTHS = (1000, 768)
SOME = ("index.html", "results.html", "library.html", "lessons/first_samples.html", "api/2_sampling/ddim.html")
LOOKS = { # where both renderers have the same things
    "preview": dict(sidebar="#sidebar", theme="#theme", search="#search", found="#found a", menu="#menu",
                    index="search.js", dark="document.documentElement.dataset.theme === 'dark'"),
    "quarto": dict(sidebar="#quarto-sidebar", theme=".quarto-color-scheme-toggle", search="#quarto-search input",
                   found=".aa-Item", menu=".quarto-btn-toggle", index="search.json",
                   dark="document.body.classList.contains('quarto-dark')")}


@pytest.fixture(scope="module")
def tools(root): # the preview's modules can be imported
    sys.path.insert(0, str(root/"tools"))
    yield
    sys.path.remove(str(root/"tools"))


@pytest.fixture(scope="module")
def site(root, tools):
    if os.environ.get("SITE"): return Path(os.environ["SITE"]).resolve()
    folder = root/"build"/"site" # kept: a second run renders only what changed
    run = subprocess.run([sys.executable, "tools/docs.py", "--preview", "--out", folder], cwd=root,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "No quarto" in run.stdout and str(folder/"index.html") in run.stdout
    return folder


@pytest.fixture(scope="module")
def look(site): return LOOKS["quarto" if (site/"site_libs").is_dir() else "preview"]


@pytest.fixture(scope="module")
def pages(site): # path -> text
    return {p.relative_to(site).as_posix(): p.read_text("utf-8") for p in sorted(site.rglob("*.html"))}


def prose(text): # of a page, without code, scripts and the sources of formulas
    return re.sub(r"(?s)<(pre|code|script|style|annotation)\b.*?</\1>", "", text)


def test_every_source_has_its_page(root, pages, look):
    from preview import html_path
    found = (p.relative_to(root/"nbs") for p in (root/"nbs").rglob("*.ipynb"))
    sources = [p for p in found if not any(part[0] in "._" for part in p.parts)]
    assert {html_path(p).as_posix() for p in sources} | {"changelog.html"} == set(pages)
    front = re.search(rf'(?s)<nav id="{look["sidebar"][1:]}".*?</nav>', pages["index.html"])[0]
    for path in pages: assert re.search(rf'href="(\./)?{path}"', front), f"{path} is not in the sidebar"


def test_links_and_anchors_lead_somewhere(site, tools):
    from check_links import broken, foreign
    assert broken(site) == [] and foreign(site) == []


def test_a_broken_link_is_found(tmp_path, tools):
    from check_links import broken, foreign
    (tmp_path/"a.html").write_text('<a href="b.html#x">x</a><a href="b.html#y">y</a><a href="c.html">c</a>', "utf-8")
    (tmp_path/"b.html").write_text('<h2 id="x">x</h2><img src="https://example.org/a.png">', "utf-8")
    assert broken(tmp_path) == ["a.html: b.html#y", "a.html: c.html"]
    assert foreign(tmp_path) == ["b.html: https://example.org/a.png"]


def sent(path, look): # bytes of a file; of Quarto's large text files what a server sends
    data = path.read_bytes()
    packed = look is LOOKS["quarto"] and path.suffix in (".css", ".js", ".html")
    return len(gzip.compress(data, 6) if packed else data)


def test_pages_are_light(site, pages, tools, look):
    from search_index import read_page
    fonts = sum(f.stat().st_size for f in site.rglob("*.woff*")) # the search index comes when somebody searches
    for path, text in pages.items():
        limit = 1.5e6 if path == "index.html" else 4e6
        sources = {(site/path).parent/s for s in read_page(text).sources if not s.startswith("data:")}
        weight = fonts + sum(sent(f, look) for f in {site/path, *sources} if f.suffix != ".html" or f == site/path)
        assert weight < limit, f"{path} weighs {weight/1e6:.1f} MB"


def test_nothing_raw_is_left(pages):
    for path, text in pages.items():
        text = prose(text)
        for raw in ("#|", ":::", "```", "$$", "###", "default_exp", "{target=", "fig-alt=", "[[", "]("):
            assert raw not in text, f"{path}: {raw} near {text[max(0, text.find(raw) - 80):][:160]!r}"


def test_images_have_words(pages):
    for path, text in pages.items():
        silent = [tag for tag in re.findall(r"<img\b[^>]*>", prose(text)) if not re.search(r'\salt="[^"]{3,}"', tag)]
        assert silent == [], f"{path}: no words for {silent[0][:200]}"


def test_headings_are_in_order(pages):
    for path, text in pages.items():
        levels = [int(n) for n in re.findall(r"<h([1-6])\b", text[text.find("<main"):text.find("</main>")])]
        assert levels[0] == 1 and levels.count(1) == 1, path
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), f"{path}: a level of headings is left out"


def test_pages_have_cards(pages, site):
    for path, text in pages.items():
        card = re.search(r'<meta property="og:image" content="https://[^/]+/slowddim/([^"]+)">', text)
        assert card and (site/card[1]).is_file() and 'name="twitter:card"' in text, path


def test_math_is_mathml(root, pages):
    for path, source in [("lessons/sampling_is_an_ode.html", "lessons/07_sampling_is_an_ode.ipynb"),
                         ("api/2_sampling/ddim.html", "api/2_sampling/06_ddim.ipynb")]:
        displayed = (root/"nbs"/source).read_text("utf-8").count("$$")//2
        assert pages[path].count('<math display="block"') == displayed > 0


def test_exported_names_have_entries(root, pages, tools):
    from search_index import read_page
    from test_docs import exported, modules
    for path in modules(root):
        page = next(text for page, text in pages.items() if re.fullmatch(rf"api/\w+/{path.stem}\.html", page))
        ids = read_page(page).ids
        assert not [n for n in exported(path) if n.lower() not in ids], f"{path.stem}: no entry"


def test_signatures_say_something(pages):
    import html
    for path, text in pages.items():
        for block in re.findall(r"(?s)<pre[^>]*><code[^>]*>(.*?)</code></pre>", text):
            code = html.unescape(re.sub(r"<[^>]+>", "", block))
            if not re.match(r"(def|class) \w+\(", code) or ":\n" in code: continue # an entry, not an example
            for mute in ("NoneType", "__main__.", " object at 0x", "<function", "torch._C", "slowddim."):
                said = [line.partition("#")[0] for line in code.splitlines()]
                assert not any(mute in line for line in said), f"{path}: {mute} in {code[:200]}"


def test_every_result_is_shown_with_its_command(root, pages):
    import html
    shown = html.unescape(re.sub(r"<[^>]+>", "", pages["results.html"]))
    for file in (root/"results").glob("*.json"):
        result = json.loads(file.read_text("utf-8"))
        assert f"results/{file.name}" in shown
        for command in result.get("commands") or [result["command"]]:
            assert command.replace(" --quiet", "") in shown, f"{file.name}: {command}"


def test_search_finds_sigma(site, look):
    text = (site/look["index"]).read_text("utf-8")
    index = json.loads(text.removeprefix("window.searchIndex=").rstrip(";\n"))
    found = {e["href"] for e in index if "sigma" in (e["section"] + e["text"]).lower()}
    assert "api/2_sampling/ddim.html#the-step" in found
    assert any(e["section"] == "ddim_step" for e in index)
    for source in ("\\frac", "\\bar", "\\sqrt"): # a formula is indexed as it is read, not as it is written
        assert [e["href"] for e in index if source in e["text"]] == []


@pytest.fixture
def processed(tools): # cells -> the same, after processors of the docs
    import doc_procs
    from fastcore.nbio import dict2nb

    def run(*cells, names=("describe_images", "set_apart")):
        nb = dict2nb(cells=list(cells), metadata={}, nbformat=4, nbformat_minor=5)
        for name in names:
            processor = getattr(doc_procs, name)(nb)
            getattr(processor, "begin", lambda: None)()
            for cell in nb.cells: processor.cell(cell)
        return nb.cells
    return run


def drawing(source, *outputs): # a code cell
    data = [{"text/markdown": o} if o else {"image/png": ""} for o in outputs]
    return dict(cell_type="code", source=source, metadata={}, execution_count=None,
                outputs=[dict(output_type="display_data", metadata={}, data=d) for d in data])


def written(source): return dict(cell_type="markdown", source=source, metadata={})


@pytest.mark.parametrize("source, words", [
    ('ax.set(title="the fall of $x_t$", xlabel="t")', "Fall: the fall of x_t"),
    ('ax.set(title=f"{n} steps", xlabel="t", ylabel="x")', "Fall: x by t"),
    ("show_images(x)", "Fall: How \N{RIGHT SINGLE QUOTATION MARK}it\N{RIGHT SINGLE QUOTATION MARK} falls"),
    ("%magic\nplot(x)", "Fall: How \N{RIGHT SINGLE QUOTATION MARK}it\N{RIGHT SINGLE QUOTATION MARK} falls")])
def test_words_for_an_image(processed, source, words):
    cells = processed(written("## Fall\n\nNot this paragraph.\n\nHow 'it' falls:"), drawing(source, None))
    assert cells[1].source == f"#| fig-alt: {json.dumps([words])}\n{source}"


def test_words_for_images_between_texts(processed):
    cells = processed(drawing("show()", "### One\n\n`--n 1`", None, "### Two\n\nsay --n 2, `--n 2`", None))
    assert cells[0].source.startswith('#| fig-alt: ["", "One: a figure", "", "Two: a figure"]')
    texts = [o["data"].get("text/markdown") for o in cells[0].outputs]
    assert texts[0] == "\n\n### One\n\n`--n 1`\n\n" # Quarto joins what a cell shows without blank lines
    assert texts[2] == "\n\n### Two\n\nsay \\-\\-n 2, `--n 2`\n\n"


def test_badges_captions_and_rest(processed):
    text = "[![Open](a.svg)](https://example.org)\n\n![A shirt](b.png)\n\n![It moves](c.gif)"
    badge, figure, film = processed(written(text))[0].source.split("\n\n")
    assert badge == "[[![Open](a.svg)](https://example.org)]{.badge-link}"
    assert figure == '![A shirt](b.png){fig-alt="A shirt"}'
    assert 'media="(prefers-reduced-motion: reduce)" srcset="c_still.png"' in film and 'alt="It moves"' in film


def test_a_link_inside_a_link(root, tools):
    from doc_procs import link_here
    from fastcore.nbio import dict2nb
    here = link_here(dict2nb(cells=[], metadata={}, nbformat=4, nbformat_minor=5, path_=root/"nbs"/"library.ipynb"))
    here.begin()
    assert here.link("[[`train`](a.html#train)](b.ipynb)") == "[`train`](b.ipynb)"


def test_the_still_is_the_last_frame(root):
    from PIL import Image
    film = Image.open(root/"nbs"/"images"/"forming.gif")
    film.seek(film.n_frames - 1)
    still = Image.open(root/"nbs"/"images"/"forming_still.png")
    assert still.convert("L").tobytes() == film.convert("L").tobytes()


def test_cell_options_and_callouts(root, tmp_path, tools, site):
    if not (root/"_proc").is_dir(): pytest.skip("looks at a site that is built elsewhere")
    import nbformat
    from page_markdown import Page
    from preview import Site
    new, code = nbformat.v4, nbformat.v4.new_code_cell
    out = [new.new_output("stream", name="stdout", text="printed\n")]
    cells = [code('#| code-fold: true\n#| code-summary: "Answer"\n6*7', outputs=out),
             code("#| echo: false\nhidden_code()", outputs=out), code("#| include: false\ngone()"),
             new.new_markdown_cell("::: {.callout-tip}\n## Try\nDo it.\n:::\n\n```` python\n```\n````")]
    nbformat.write(new.new_notebook(cells=cells), tmp_path/"a.ipynb")
    text = Page(tmp_path/"a.ipynb", tmp_path/"a.html").markdown()
    done = Site(root/"_proc", tmp_path/"out").pandoc(text, {})
    assert '<details class="code-fold"><summary>Answer</summary>' in done and done.count("printed") == 2
    assert "hidden_code" not in done and "gone" not in done
    assert re.search(r'class="callout callout-tip">\s*<div class="callout-title">\s*Try', done)
    assert '<h2 id="try"' not in done


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, of the development extra")
    from selenium.webdriver.chrome.service import Service
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if not chromium or not driver: pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync",
                 "disable-background-networking", "disable-component-update",
                 f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    window.get("about:blank")
    for kind in ("browser", "performance"): window.get_log(kind) # the browser's own first page
    yield window
    window.quit()


@pytest.fixture(scope="module")
def served(site): # address of the site on this machine
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def until(what, seconds=30): # wait for something true
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def resize(browser, width):
    size = dict(width=width, height=900, deviceScaleFactor=1, mobile=False)
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


LOAD_IMAGES = """const done = arguments[0], all = [...document.images];
all.forEach(i => i.loading = "eager");
Promise.all(all.map(i => i.decode().then(() => null, () => i.src))).then(r => done(r.filter(x => x)));"""


FAINT = """// text whose contrast with what is really behind it is below 4.5
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4);
  return .2126*r + .7152*g + .0722*b; };
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number), unit = text.startsWith("color") ? 255 : 1;
  return [n[0]*unit, n[1]*unit, n[2]*unit, n[3] ?? 1]; };
const over = (top, below) => below.map((v, i) => top[3]*top[i] + (1 - top[3])*v);
const known = new Map();
const ground = e => { if (!e) return [255, 255, 255];
  if (!known.has(e)) { const c = parse(getComputedStyle(e).backgroundColor);
    known.set(e, c[3] === 1 ? c.slice(0, 3) : over(c, ground(e.parentElement))); }
  return known.get(e); };
const faint = new Map();
for (const e of document.body.querySelectorAll("*")) {
  if (e.namespaceURI !== "http://www.w3.org/1999/xhtml" || !e.checkVisibility({visibilityProperty: true})) continue;
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  const below = ground(e), a = light(over(parse(getComputedStyle(e).color), below)), b = light(below);
  const ratio = (Math.max(a, b) + .05)/(Math.min(a, b) + .05);
  if (ratio < 4.5) faint.set(e.tagName + "." + e.className, ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 40));
}
return [...faint].map(f => f.join(": "));"""


def choose(browser, look, theme): # by the page's own button
    if browser.execute_script(f"return {look['dark']}") != (theme == "dark"):
        browser.execute_script(f"document.querySelector({look['theme']!r}).click()")
    light = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] > 127"
    until(lambda: browser.execute_script(light) == (theme == "light"))


def rest(browser, wanted=True): # ask for no motion, or no longer
    features = [dict(name="prefers-reduced-motion", value="reduce")] if wanted else []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(features=features))


def width_of(browser): return browser.execute_script("return document.documentElement.scrollWidth")


def requests(browser): # (address, what went wrong or None) since the last call
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        kind, params = message["method"], message["params"]
        if kind == "Network.requestWillBeSent": yield params["request"]["url"], None
        elif kind == "Network.loadingFailed":
            if not params.get("canceled"): yield params["requestId"], params["errorText"]
        elif kind == "Network.responseReceived" and params["response"]["status"] >= 400:
            yield params["response"]["url"], params["response"]["status"]


@pytest.fixture
def resting(browser): # a colour that is on its way from one theme to the other is no colour to judge
    rest(browser)
    yield browser
    rest(browser, False)


def test_every_page_in_a_browser(resting, served, pages, look):
    browser = resting
    for path in pages:
        resize(browser, WIDTHS[0])
        browser.get(served + path)
        assert browser.execute_async_script(LOAD_IMAGES) == [], f"{path}: images that do not load"
        for theme in ("dark", "light"):
            choose(browser, look, theme)
            faint = browser.execute_script(FAINT)
            assert faint == [], f"{path}, {theme} theme: too faint: {faint[:5]}"
        for width in WIDTHS + MORE_WIDTHS*(path in SOME):
            resize(browser, width)
            assert width_of(browser) <= width, f"{path} is {width_of(browser)} pixels wide in a window of {width}"
        assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == [], path
        for address, fault in requests(browser):
            assert fault is None, f"{path}: {address}: {fault}"
            assert address.startswith((served, "data:")), f"{path} asks another host: {address}"
            assert address != served + look["index"], f"{path} loads the search index before anybody searches"


def test_math_has_a_size(browser, served):
    browser.get(served + "lessons/sampling_is_an_ode.html")
    script = "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)"
    sizes = browser.execute_script(script)
    assert len(sizes) > 20 and min(sizes) > 5
    assert browser.execute_script("return document.querySelector('math').namespaceURI").endswith("MathML")


def test_search_box(browser, served, look):
    from selenium.webdriver.common.keys import Keys
    resize(browser, 1400)
    browser.get(served + "lessons/first_samples.html")
    box = until(lambda: browser.find_elements("css selector", look["search"]))[0]
    box.send_keys("sigma")
    until(lambda: "sigma" in "".join(f.text.lower() for f in browser.find_elements("css selector", look["found"])))
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys("ddim_step")
    until(lambda: "ddim_step" in "".join(f.text for f in browser.find_elements("css selector", look["found"])))
    if look is LOOKS["quarto"]: return # which comes first is its own choice
    box.send_keys("\n")
    until(lambda: browser.current_url.endswith("api/2_sampling/ddim.html#ddim_step"))


def test_keyboard_focus_is_seen(browser, served):
    from selenium.webdriver.common.keys import Keys
    resize(browser, 1400)
    browser.get(served + "reports/slowai_notebook.html")
    seen = set()
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        name, outline = browser.execute_script("""const e = document.activeElement, s = getComputedStyle(e);
            return [e.outerHTML.slice(0, 120), s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0];""")
        seen.add(name)
        assert outline, f"no outline around {name}"
    assert len(seen) > 30


def test_who_asks_for_rest_gets_it(resting, served):
    shown = "return document.querySelector('main picture img').currentSrc"
    moving = """return [...document.querySelectorAll("*")].filter(e => { const s = getComputedStyle(e);
        return s.animationName !== "none" || s.transitionDuration.split(", ").some(d => d !== "0s"); }).length"""
    resting.get(served + "index.html")
    assert resting.execute_script(shown).endswith("forming_still.png")
    assert resting.execute_script(moving) == 0
    rest(resting, False)
    resting.get(served + "index.html")
    assert resting.execute_script(shown).endswith("forming.gif")


def test_an_animation_plays(browser, served):
    browser.get(served + "reports/slowai_notebook.html")
    film = browser.find_element("css selector", ".slowddim-film")
    frame = lambda: film.find_element("tag name", "img").get_attribute("src") # noqa: E731
    before = frame()
    time.sleep(0.5)
    assert frame() == before # it waits to be asked
    film.find_element("tag name", "button").click()
    first = until(lambda: frame() != before and frame())
    until(lambda: frame() not in (before, first))
    film.find_element("tag name", "button").click()
    paused = frame()
    time.sleep(0.5)
    assert frame() == paused


def test_both_themes(browser, served, look):
    resize(browser, 1400)
    browser.get(served + "api/2_sampling/ddim.html")
    ground = "return getComputedStyle(document.body).backgroundColor"
    grounds = set()
    for theme in ("light", "dark"):
        choose(browser, look, theme)
        grounds.add(browser.execute_script(ground))
    assert len(grounds) == 2
    browser.get(served + "results.html") # the choice is kept
    assert browser.execute_script(f"return {look['dark']}")
    choose(browser, look, "light")


def test_menu_on_a_phone(browser, served, look):
    resize(browser, 400)
    browser.get(served + "index.html")
    link = browser.find_element("css selector", f"{look['sidebar']} a[href$='results.html']")
    assert not link.is_displayed()
    browser.find_element("css selector", look["menu"]).click()
    until(link.is_displayed)
    time.sleep(0.5) # it may slide
    link.click()
    until(lambda: browser.current_url.endswith("results.html"))

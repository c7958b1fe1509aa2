"The docs site, built by the preview: every link followed, every page weighed, and looked at in a browser."
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("pypandoc", reason="needs pypandoc_binary, of the development extra")
pytest.importorskip("nbdev", reason="needs nbdev, of the development extra")
WIDTHS = (1400, 400)


@pytest.fixture(scope="module")
def tools(root): # the preview's modules can be imported
    sys.path.insert(0, str(root/"tools"))
    yield
    sys.path.remove(str(root/"tools"))


@pytest.fixture(scope="module")
def site(root, tools):
    folder = root/"build"/"site" # kept: a second run renders only what changed
    run = subprocess.run([sys.executable, "tools/docs.py", "--preview", "--out", folder], cwd=root,
                         capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "No quarto" in run.stdout and str(folder/"index.html") in run.stdout
    return folder


@pytest.fixture(scope="module")
def pages(site): # path -> text
    return {p.relative_to(site).as_posix(): p.read_text("utf-8") for p in sorted(site.rglob("*.html"))}


def test_every_source_has_its_page(root, pages):
    from preview import html_path
    found = (p.relative_to(root/"nbs") for p in (root/"nbs").rglob("*.ipynb"))
    sources = [p for p in found if not any(part[0] in "._" for part in p.parts)]
    assert {html_path(p).as_posix() for p in sources} | {"changelog.html"} == set(pages)
    front = re.search(r'(?s)<nav id="sidebar".*?</nav>', pages["index.html"])[0]
    for path in pages: assert f'href="{path}"' in front, f"{path} is not in the sidebar"


def test_links_and_anchors_lead_somewhere(site, tools):
    from check_links import broken, foreign
    assert broken(site) == [] and foreign(site) == []


def test_a_broken_link_is_found(tmp_path, tools):
    from check_links import broken, foreign
    (tmp_path/"a.html").write_text('<a href="b.html#x">x</a><a href="b.html#y">y</a><a href="c.html">c</a>', "utf-8")
    (tmp_path/"b.html").write_text('<h2 id="x">x</h2><img src="https://example.org/a.png">', "utf-8")
    assert broken(tmp_path) == ["a.html: b.html#y", "a.html: c.html"]
    assert foreign(tmp_path) == ["b.html: https://example.org/a.png"]


def test_pages_are_light(site, pages, tools):
    from search_index import read_page
    later = sum((site/s).stat().st_size for s in ("search.js", *(f.relative_to(site) for f in site.glob("fonts/*"))))
    for path, text in pages.items():
        limit = 1.5e6 if path == "index.html" else 4e6
        sources = {(site/path).parent/s for s in read_page(text).sources if not s.startswith("data:")}
        weight = later + len(text.encode()) + sum(s.stat().st_size for s in sources)
        assert weight < limit, f"{path} weighs {weight/1e6:.1f} MB"


def test_nothing_raw_is_left(pages):
    for path, text in pages.items():
        prose = re.sub(r"(?s)<(pre|code|script|annotation)\b.*?</\1>", "", text)
        for raw in ("#|", ":::", "```", "$$", "default_exp", "{target="):
            assert raw not in prose, f"{path}: {raw} near {prose[max(0, prose.find(raw) - 80):][:160]!r}"


def test_math_is_mathml(root, pages):
    for path, source in [("lessons/sampling_is_an_ode.html", "lessons/05_sampling_is_an_ode.ipynb"),
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


def test_every_result_is_shown_with_its_command(root, pages):
    import html
    shown = html.unescape(re.sub(r"<[^>]+>", "", pages["results.html"]))
    for file in (root/"results").glob("*.json"):
        result = json.loads(file.read_text("utf-8"))
        assert f"results/{file.name}" in shown
        for command in result.get("commands") or [result["command"]]:
            assert command.replace(" --quiet", "") in shown, f"{file.name}: {command}"


def test_search_finds_sigma(site):
    index = json.loads((site/"search.js").read_text("utf-8").removeprefix("window.searchIndex=").rstrip(";\n"))
    found = {e["href"] for e in index if "sigma" in (e["section"] + e["text"]).lower()}
    assert "api/2_sampling/ddim.html#the-step" in found and "notation.html" in found
    assert any(e["section"] == "ddim_step" for e in index)


def test_cell_options_and_callouts(tmp_path, tools, site):
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
    done = Site(site.parent.parent/"_proc", tmp_path/"out").pandoc(text, {})
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


WIDTH_IN = """document.documentElement.dataset.theme = arguments[0];
return document.documentElement.scrollWidth;"""


def requests(browser): # (address, what went wrong or None) since the last call
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        kind, params = message["method"], message["params"]
        if kind == "Network.requestWillBeSent": yield params["request"]["url"], None
        elif kind == "Network.loadingFailed":
            if not params.get("canceled"): yield params["requestId"], params["errorText"]
        elif kind == "Network.responseReceived" and params["response"]["status"] >= 400:
            yield params["response"]["url"], params["response"]["status"]


def test_every_page_in_a_browser(browser, served, pages):
    for path in pages:
        resize(browser, WIDTHS[0])
        browser.get(served + path)
        assert browser.execute_async_script(LOAD_IMAGES) == [], f"{path}: pictures that do not load"
        for width in WIDTHS:
            resize(browser, width)
            for theme in ("dark", "light"):
                wide = browser.execute_script(WIDTH_IN, theme)
                assert wide <= width, f"{path} is {wide} pixels wide in a window of {width}, {theme} theme"
        assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == [], path
        for address, fault in requests(browser):
            assert fault is None, f"{path}: {address}: {fault}"
            assert address.startswith((served, "data:")), f"{path} asks another host: {address}"


def test_math_has_a_size(browser, served):
    browser.get(served + "lessons/sampling_is_an_ode.html")
    script = "return [...document.querySelectorAll('math')].map(m => m.getBoundingClientRect().height)"
    sizes = browser.execute_script(script)
    assert len(sizes) > 20 and min(sizes) > 5
    assert browser.execute_script("return document.querySelector('math').namespaceURI").endswith("MathML")


def test_search_box(browser, served):
    resize(browser, 1400)
    browser.get(served + "lessons/first_samples.html")
    box = browser.find_element("id", "search")
    box.send_keys("sigma")
    until(lambda: browser.find_elements("css selector", "#found a"))
    assert "sigma" in browser.find_element("id", "found").text.lower()
    box.clear()
    box.send_keys("ddim_step\n")
    until(lambda: browser.current_url.endswith("api/2_sampling/ddim.html#ddim_step"))


def test_an_animation_plays(browser, served):
    browser.get(served + "lessons/ddim_on_fashion_mnist.html")
    film = browser.find_element("css selector", ".slowddim-film")
    frame = lambda: film.find_element("tag name", "img").get_attribute("src") # noqa: E731
    before = frame()
    film.find_element("tag name", "button").click()
    first = until(lambda: frame() != before and frame())
    until(lambda: frame() not in (before, first))
    film.find_element("tag name", "button").click()
    paused = frame()
    time.sleep(0.5)
    assert frame() == paused


def contrast(browser, selector): # of text with the page's background
    script = """const linear = v => v <= .03928 ? v/12.92 : ((v + .055)/1.055)**2.4;
    const rgb = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v/255));
    const light = c => { const [r, g, b] = rgb(c); return .2126*r + .7152*g + .0722*b; };
    const a = light(getComputedStyle(document.querySelector(arguments[0])).color);
    const b = light(getComputedStyle(document.body).backgroundColor);
    return (Math.max(a, b) + .05)/(Math.min(a, b) + .05);"""
    return browser.execute_script(script, selector)


def test_both_themes(browser, served):
    resize(browser, 1400)
    browser.get(served + "api/2_sampling/ddim.html")
    grounds = {}
    for _ in range(2):
        theme = browser.execute_script("return document.documentElement.dataset.theme")
        grounds[theme] = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        for selector in ("article p", "article p a", ".description", "#toc a", "code span.kw", "code span.co"):
            assert contrast(browser, selector) > 4.5, f"{selector} in the {theme} theme"
        browser.find_element("id", "theme").click()
    assert set(grounds) == {"light", "dark"} and len(set(grounds.values())) == 2
    browser.find_element("id", "theme").click()
    chosen = browser.execute_script("return document.documentElement.dataset.theme")
    browser.get(served + "results.html")
    assert browser.execute_script("return document.documentElement.dataset.theme") == chosen


def test_menu_on_a_phone(browser, served):
    resize(browser, 400)
    browser.get(served + "index.html")
    link = browser.find_element("css selector", "#sidebar a[href='results.html']")
    assert not link.is_displayed()
    browser.find_element("id", "menu").click()
    link.click()
    until(lambda: browser.current_url.endswith("results.html"))

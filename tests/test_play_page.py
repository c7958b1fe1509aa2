"The play page in a browser: what it draws is what Python draws; it cancels, falls back, and asks nobody else."
import re
import shutil
import sys
import threading

import nbformat
import numpy as np
import pytest
import torch
from test_site import FAINT, browser, requests, resize, rest, until  # noqa: F401

from slowddim.files import tensors_digest
from slowddim.learned import FittedSolver, save_solver
from slowddim.ode import ode_steps
from slowddim.schedule import as_timesteps, schedule_from_spec

pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra onnx")
pytest.importorskip("onnxscript", reason="needs onnxscript, of the extra onnx")


def block_of(root): # the raw part of nbs/play.ipynb
    cells = nbformat.read(root/"nbs"/"play.ipynb", 4).cells
    return next(re.search(r"(?s)```\{=html\}\n(.*)```", c.source)[1] for c in cells if "{=html}" in c.source)


def page_of(root): # as a page of its own, in the site's clothes
    from preview import THEME, colours
    block = block_of(root)
    css = "".join(colours((root/"nbs"/f).read_text("utf-8"), head)
                  for head, f in ((":root", "light.scss"), (':root[data-theme="dark"]', "dark.scss")))
    css += (THEME/"preview.css").read_text("utf-8")
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Play</title>'
            f'<link rel="icon" href="data:,">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{css}</style></head>'
            f'<body><header class="bar"></header><nav id="sidebar"></nav><main id="main"><article>'
            f'<h1>Play with the sampler</h1>{block}</article></main></body></html>')


def save_a_solver(facts, folder): # one that fits the network, made without fitting: 2M's moves, a little off
    schedule = schedule_from_spec(facts["schedule"])
    times, rows = as_timesteps(3, schedule), []
    for i, step in enumerate(ode_steps([*times, -1], schedule, "dpmpp_2m")):
        past = [*step.of_past, *[(0., 0.02)]*(i - len(step.of_past))]
        rows.append([(step.of_x0 + 0.01, step.of_eps), *past])
    told = dict(network=facts["digest"], schedule=tensors_digest(dict(alpha_bar=schedule.alpha_bar)), guidance=1.,
                held_out=dict(fitted=0.1, dpmpp_2m=0.2))
    return save_solver(FittedSolver(times, rows, told), folder/"own_3.json")


@pytest.fixture(scope="module")
def solver_file(tmp_path_factory): return tmp_path_factory.mktemp("solvers")/"own_3.json"


@pytest.fixture(scope="module")
def site(root, tmp_path_factory, solver_file): # with runtime, network and a fitted solver
    sys.path.insert(0, str(root/"tools"))
    try:
        import play_assets
        patch = pytest.MonkeyPatch()
        patch.setattr(play_assets, "own_solvers", lambda name, facts: solver_file.parent)
        patch.setattr(play_assets, "fit", lambda name, facts: save_a_solver(facts, solver_file.parent))
        folder = tmp_path_factory.mktemp("play")
        shutil.copytree(root/"nbs"/"play", folder/"play")
        shutil.copytree(root/"nbs"/"images", folder/"images")
        (folder/"play.html").write_text(page_of(root), encoding="utf-8")
        said = play_assets.add(folder)
        patch.undo()
    finally: sys.path.remove(str(root/"tools"))
    if "film alone" in said: pytest.skip(said)
    return folder


def serve(root, site, isolated):
    sys.path.insert(0, str(root/"tools"))
    try: from serve import server
    finally: sys.path.remove(str(root/"tools"))
    made = server(site, isolated=isolated)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


@pytest.fixture(scope="module")
def served(root, site):
    made = serve(root, site, True)
    yield f"http://127.0.0.1:{made.server_port}/"
    made.shutdown()


@pytest.fixture(scope="module")
def served_plainly(root, site): # as a host without isolation
    made = serve(root, site, False)
    yield f"http://127.0.0.1:{made.server_port}/"
    made.shutdown()


@pytest.fixture(scope="module")
def exported(root): # the same file, in Python
    sys.path.insert(0, str(root/"tools"))
    try: import play_assets
    finally: sys.path.remove(str(root/"tools"))
    from slowddim.export import load_export
    return load_export(play_assets.export(play_assets.pick_model()))


DONE = "return Number(document.getElementById('play').dataset.done ?? 0)"
STATUS = "return document.querySelector('[data-part=status]').textContent"
LINES = "return document.querySelector('[data-part=python]').textContent"
PIXELS = """const c = document.querySelector(`[data-part="${arguments[0]}"]`);
const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
return [c.height, c.width, Array.from({length: c.width*c.height}, (_, i) => 255 - d[4*i])];"""


def start(window, address, hash=""): # opens the page and presses the button, or, where it is open, asks for a run
    ready = "return document.getElementById('play')?.dataset.ready !== undefined"
    if window.current_url.startswith(f"{address}play.html") and window.execute_script(ready):
        before = window.execute_script(DONE)
        window.execute_script("""history.replaceState(null, "", location.pathname + arguments[0]);
                                 dispatchEvent(new Event("hashchange"));""", hash)
        return again(window, before)
    window.get("about:blank")
    window.get(f"{address}play.html{hash}")
    button = until(lambda: window.find_elements("css selector", "[data-part=start]"))[0]
    until(button.is_displayed)
    button.click()
    until(lambda: window.execute_script(DONE) >= 1, 300)


def again(window, before, seconds=300): # waits for one more run
    until(lambda: window.execute_script(DONE) > before and "images in" in window.execute_script(STATUS), seconds)


def pixels(window, part, columns): # (N, 28, 28) uint8; the page shows them dark on white
    h, w, values = window.execute_script(PIXELS, part)
    grid = np.array(values, np.uint8).reshape(h//28, 28, columns, 28)
    return grid.transpose(0, 2, 1, 3).reshape(-1, 28, 28)


def in_python(text, exported): # runs the lines that the page shows, with the file in the place of the network
    scope = {}
    import matplotlib
    matplotlib.use("agg")
    with torch.inference_mode():
        lines = text.replace("show_images(images)", "").replace("show_images(", "images = (")
        lines = re.sub(r"model, schedule = load_pretrained\(.*\)", "model, schedule = exported", lines)
        scope["exported"] = exported
        exec(lines, scope)
    found = scope["images"]
    if found.is_floating_point():
        from slowddim.generate import to_images
        found = to_images(found, exported[0])
    return found[..., 0].numpy()


def same(a, b): # within one grey level on 99.8 % of the pixels
    assert a.shape == b.shape
    share = (np.abs(a.astype(int) - b.astype(int)) <= 1).mean()
    assert share >= 0.998, f"{share:.4%} of the pixels agree"


def test_nothing_is_fetched_before_start_and_nothing_elsewhere(browser, served): # noqa: F811
    list(requests(browser))
    browser.get_log("browser")
    browser.get(f"{served}play.html")
    until(lambda: browser.find_element("css selector", "[data-part=start]").is_displayed())
    before = [address for address, _ in requests(browser)]
    assert not [a for a in before if a.endswith((".wasm", ".onnx")) or "ort" in a]
    browser.find_element("css selector", "[data-part=start]").click()
    until(lambda: browser.execute_script(DONE) >= 1, 300)
    for address, fault in requests(browser):
        assert fault is None and address.startswith((served, "data:", "blob:" + served)), (address, fault)
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


SETTINGS = ["#n=4", "#n=5&solver=ddim&eta=1&seed=3", "#label=Bag&guidance=2.5&n=3&solver=heun&seed=1",
            "#n=4&spacing=logsnr&seed=123456"]


@pytest.mark.parametrize("settings", SETTINGS)
def test_images_are_pythons(browser, served, exported, settings): # noqa: F811
    start(browser, served, settings)
    same(pixels(browser, "x_0", 3), in_python(browser.execute_script(LINES), exported))
    assert browser.execute_script("return location.hash") == settings


def test_an_image_between_two_seeds_is_pythons(browser, served, exported): # noqa: F811
    start(browser, served, "#view=between&n=3&other=5&w=0.3&label=Coat")
    same(pixels(browser, "way", 3)[1:2], in_python(browser.execute_script(LINES), exported))


def test_a_learned_solver_is_pythons(browser, served, exported, solver_file, monkeypatch): # noqa: F811
    "The file that the page offers, read by both; where there are no such evaluations, it takes the nearest."
    start(browser, served, "#solver=learned&n=7&guidance=3&seed=4")
    assert browser.execute_script("return location.hash") == "#n=3&solver=learned&seed=4"
    offered = browser.find_elements("css selector", "[data-part=counts] option")
    assert [option.get_attribute("value") for option in offered] == ["3"]
    link = browser.find_element("css selector", "[data-part=files] a").get_attribute("href")
    assert link == f"{served}play/solvers/own_3.json"
    def checked(solver, model, guidance=1.): # the digest of the exported network, which has no weights to look at
        assert (solver.facts["network"], guidance) == (model.card["digest"], 1)
    monkeypatch.setattr(FittedSolver, "check", checked)
    monkeypatch.chdir(solver_file.parent)
    lines = browser.execute_script(LINES)
    same(pixels(browser, "x_0", 3), in_python(lines, exported))
    other = in_python(lines.replace("solver=solver, ", 'solver="dpmpp_2m", '), exported)
    with pytest.raises(AssertionError, match="of the pixels agree"): same(pixels(browser, "x_0", 3), other)


def test_a_wrong_image_is_noticed(browser, served, exported): # noqa: F811
    start(browser, served, "#n=2")
    lines = browser.execute_script(LINES).replace("seed=0", "seed=1")
    other = in_python(lines, exported)
    with pytest.raises(AssertionError, match="of the pixels agree"): same(pixels(browser, "x_0", 3), other)


def test_a_knob_in_the_middle_cancels(browser, served): # noqa: F811
    start(browser, served, "#n=1")
    turn = """const knob = document.querySelector(`[data-knob="${arguments[0]}"]`); knob.value = arguments[1];
              knob.dispatchEvent(new Event("input", {bubbles: true}));"""
    done = browser.execute_script(DONE)
    browser.execute_script(turn, "n", 50)
    until(lambda: re.match(r"[1-9]\d* of 50", browser.execute_script(STATUS)), 300)
    browser.execute_script(turn, "n", 2)
    again(browser, done)
    assert browser.execute_script(DONE) == done + 1 # the run of fifty never ended
    browser.execute_script(turn, "n", 50)
    until(lambda: re.match(r"[1-9]\d* of 50", browser.execute_script(STATUS)), 300)
    browser.find_element("css selector", "[data-part=stop]").click()
    until(lambda: browser.execute_script(STATUS) == "Stopped.")
    assert not browser.find_element("css selector", "[data-part=stop]").is_enabled()


def test_a_drawn_half_is_kept(browser, served): # noqa: F811
    start(browser, served, "#view=draw&n=3")
    drawn, found = pixels(browser, "sketch", 1)[0], pixels(browser, "finished", 2)
    assert len(found) == 4 and (np.abs(found[:, :14].astype(int) - drawn[:14]) <= 1).all()
    assert not (np.abs(found[:, 14:].astype(int) - found[:1, 14:]) <= 1).all() # four ways


def test_widths_and_themes(browser, served): # noqa: F811
    rest(browser)
    start(browser, served, "#n=1")
    for view in ("nine", "steps", "between", "draw"):
        browser.execute_script("location.hash = arguments[0]", f"n=1&solver=ddim&eta=0.5&view={view}")
        until(lambda: browser.find_element("css selector", f"[data-view={view}]").is_displayed())
        for theme in ("dark", "light"):
            browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
            assert browser.execute_script(FAINT) == [], (view, theme)
        for width in (400, 1400):
            resize(browser, width)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, (view, width)
    rest(browser, False)


def test_every_knob_has_a_name(root):
    text = block_of(root)
    for tag in re.findall(r"<(?:input|select|canvas)\b[^>]*>", text):
        assert re.search(r'aria-label="[^"]+"', tag), tag
    assert "<noscript>" in text and "forming.gif" in text


def test_a_host_without_isolation_gets_one_thread(browser, served_plainly): # noqa: F811
    start(browser, served_plainly, "#n=1")
    assert browser.execute_script("return document.getElementById('play').dataset.ready") == "1"
    assert "one thread" in browser.execute_script(STATUS)


def test_without_assets_the_page_has_its_film(browser, root, site, tmp_path): # noqa: F811
    folder = tmp_path/"bare"
    shutil.copytree(root/"nbs"/"play", folder/"play")
    shutil.copytree(root/"nbs"/"images", folder/"images")
    shutil.copy(site/"play.html", folder)
    made = serve(root, folder, True)
    browser.get_log("browser")
    browser.get(f"http://127.0.0.1:{made.server_port}/play.html")
    until(lambda: "without npm" in browser.find_element("css selector", "[data-part=why]").text)
    assert not browser.find_element("css selector", "[data-part=start]").is_displayed()
    assert browser.find_element("css selector", "[data-part=film] img").is_displayed()
    assert [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    made.shutdown()

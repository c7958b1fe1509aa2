"""How fast the play page is, and whether its memory stays flat, measured in headless Chromium on this machine.

Writes results/browser.json. Needs a built site with the network in it (make docs). Run: python benchmarks/browser.py
"""
import argparse
import os
import shutil
import statistics
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from slowddim.files import machine_facts, write_json

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT/"tools"))
DONE = "return Number(document.getElementById('play').dataset.done ?? 0)"
MS = "return Number(document.getElementById('play').dataset.ms)"
FIRST = """const done = arguments[0], status = document.querySelector("[data-part=status]"), tic = performance.now();
new MutationObserver((_, watch) => { if (/^1 of/.test(status.textContent)) { watch.disconnect();
  done(performance.now() - tic); } }).observe(status, {childList: true, characterData: true, subtree: true});
document.querySelector("[data-part=again]").click();"""
RUNS = """const [n, done] = arguments, root = document.getElementById("play"); let left = n;
const again = () => root.querySelector("[data-part=again]").click();
new MutationObserver((_, watch) => { left -= 1; if (left) again(); else { watch.disconnect(); done(); } })
  .observe(root, {attributeFilter: ["data-done"]});
again();""" # one after the other, without a question from outside in between: each leaves something in the browser


def open_browser():
    "Start Chromium without a window."
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for flag in ("headless", "no-sandbox", "disable-gpu"): options.add_argument(f"--{flag}")
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def wait(window, n, seconds=600): # until so many runs are done
    end = time.monotonic() + seconds
    while window.execute_script(DONE) < n:
        if time.monotonic() > end: raise TimeoutError(f"{n} runs took more than {seconds} s")
        time.sleep(0.02)


def again(window): # one more run; its milliseconds
    n = window.execute_script(DONE)
    window.execute_script("document.querySelector('[data-part=again]').click()")
    wait(window, n + 1)
    return window.execute_script(MS)


def memory(window): # of the browser's processes together, in MB
    browser = psutil.Process(window.service.process.pid)
    return sum(p.memory_info().rss for p in browser.children(recursive=True) if p.is_running())/1e6


def measure(folder, solver, isolated, runs, repeats): # the page in one kind of host
    from serve import server
    site = server(folder, isolated=isolated)
    threading.Thread(target=site.serve_forever, daemon=True).start()
    window = open_browser()
    try:
        tic = time.perf_counter()
        window.get(f"http://127.0.0.1:{site.server_port}/play.html#n=5&solver={solver}")
        while not window.find_element("css selector", "[data-part=start]").is_displayed(): time.sleep(0.02)
        window.find_element("css selector", "[data-part=start]").click()
        wait(window, 1)
        opened = time.perf_counter() - tic
        nine = [again(window) for _ in range(repeats)]
        window.set_script_timeout(600)
        firsts = []
        for _ in range(repeats):
            n = window.execute_script(DONE)
            firsts.append(window.execute_async_script(FIRST))
            wait(window, n + 1)
        threads = int(window.execute_script("return document.getElementById('play').dataset.ready"))
        row = dict(threads=threads, solver=solver, evaluations=5, opened_seconds=round(opened, 2), repeats=repeats,
                   nine_seconds=round(statistics.median(nine)/1000, 2), nine_best_seconds=round(min(nine)/1000, 2),
                   first_seconds=round(statistics.median(firsts)/1000, 2))
        if runs:
            before = window.execute_script(DONE)
            window.execute_script("location.hash = 'n=1'")
            wait(window, before + 1)
            seen = []
            for _ in range(runs//10):
                window.execute_async_script(RUNS, 10)
                window.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
                seen.append(round(memory(window)))
            row |= dict(runs=runs, memory_mb=seen)
        return row
    finally:
        window.quit()
        site.shutdown()


def main():
    "Measure with threads and without, and write."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path, nargs="?", default=ROOT/"_docs", help="folder of the built site")
    parser.add_argument("--solver", default="learned", help="of five evaluations, as in the page's address")
    parser.add_argument("--runs", type=int, default=200, help="of which the memory is looked at")
    parser.add_argument("--repeats", type=int, default=5, help="of what is timed")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    rows = [measure(args.site, args.solver, isolated, args.runs*isolated, args.repeats) for isolated in (True, False)]
    loads = dict(load_before=round(load, 2), load_after=round(os.getloadavg()[0], 2)) # of the machine: 0 is quiet
    result = dict(command="python benchmarks/browser.py", rows=rows, **loads,
                  machine=machine_facts(torch.device("cpu")))
    write_json(ROOT/"results"/"browser.json", result)
    print(result)


if __name__ == "__main__": main()

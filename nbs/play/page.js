// The play page: knobs, canvases and the worker that computes. Nothing is fetched before somebody presses Start.
import assets from "./assets.js";
import { SCHEDULES, SPACINGS, fittedPlan, plan, spreadLabels, timesFor } from "./ddim.js";

const root = document.getElementById("play"),
  $ = (name) => root.querySelector(`[data-part="${name}"]`);
const NAMES = {
  ddim: "DDIM",
  dpmpp_2m: "DPM-Solver++ 2M",
  heun: "Heun",
  ab2: "Adams-Bashforth 2",
  ab3: "Adams-Bashforth 3",
  ddpm: "DDPM",
  learned: "learned from this network",
};
const VIEWS = {
  nine: "Nine garments",
  steps: "Same noise, more evaluations",
  between: "Between two seeds",
  draw: "Draw half of it",
};
const DEFAULTS = {
  view: "nine",
  label: "",
  guidance: 1,
  n: 10,
  solver: "dpmpp_2m",
  eta: 0,
  spacing: "trailing",
  seed: 0,
  other: 1,
  w: 0.5,
};
const LIMITS = { guidance: [0, 8], n: [1, 50], eta: [0, 1], seed: [0, 4294967295], other: [0, 4294967295], w: [0, 1] };
const STEPS = [5, 10, 20, 50],
  calm = matchMedia("(prefers-reduced-motion: reduce)");
const set = { ...DEFAULTS };
let worker = null,
  ready = false,
  job = 0,
  listen = null,
  facts,
  schedule;

// ---------------------------------------------------------------------------------------- settings and permalink

const solvers = () => assets.solvers ?? [];
const evaluations = (solver) => solver.timesteps.length;

function learned(n) {
  // the fitted solver of so many evaluations, or of the number nearest to it
  const far = (solver) => Math.abs(evaluations(solver) - n);
  return solvers().reduce((best, solver) => (far(solver) < far(best) ? solver : best));
}

function settle() {
  // a learned solver is for its number of evaluations, its times and its guidance
  if (set.solver !== "learned") return;
  const solver = learned(set.n);
  set.n = evaluations(solver);
  set.guidance = solver.guidance;
  set.spacing = DEFAULTS.spacing;
}

function readLink() {
  Object.assign(set, DEFAULTS);
  for (const [key, text] of new URLSearchParams(location.hash.slice(1))) {
    if (!(key in DEFAULTS)) continue;
    if (!(key in LIMITS)) set[key] = text;
    else if (text !== "" && Number.isFinite(Number(text))) {
      set[key] = Math.min(Math.max(Number(text), LIMITS[key][0]), LIMITS[key][1]);
    }
  }
  for (const key of ["n", "seed", "other"]) set[key] = Math.round(set[key]);
  if (!(set.view in VIEWS)) set.view = DEFAULTS.view;
  if (!(set.spacing in SPACINGS)) set.spacing = DEFAULTS.spacing;
  if (!(set.solver in NAMES) || (set.solver === "learned" && !solvers().length)) set.solver = DEFAULTS.solver;
  if (!names().includes(set.label)) set.label = "";
  if (!names().length) set.guidance = 1;
}

function writeLink() {
  const link = new URLSearchParams(
    Object.entries(set).filter(([key, value]) => String(value) !== String(DEFAULTS[key])),
  );
  history.replaceState(null, "", String(link) ? `#${link}` : location.pathname + location.search);
}

const names = () => facts?.config.class_names ?? [];

function stepsFor(n) {
  if (set.solver === "learned") return fittedPlan(learned(n), schedule);
  return plan(schedule, timesFor(n, set.solver), {
    solver: set.solver,
    eta: set.solver === "ddim" ? set.eta : 0,
    spacing: set.spacing,
  });
}

function sampler() {
  // what the solver is told, as Python writes it
  if (set.solver === "learned") return [`timesteps=${set.n}`, "solver=solver"];
  const how = [`timesteps=${timesFor(set.n, set.solver)}`, `solver="${set.solver}"`];
  if (set.solver === "ddim" && set.eta) how.push(`eta=${set.eta}`);
  if (set.spacing !== "trailing") how.push(`spacing="${set.spacing}"`);
  return how;
}

function python() {
  // the lines that give the same images
  const how = sampler(),
    open = ["from slowddim.all import *", `model, schedule = load_pretrained("${assets.model.name}")`];
  if (set.solver === "learned") {
    open.splice(1, 0, "from slowddim.learned import load_solver");
    if (set.view !== "steps") open.push(`solver = load_solver("${fileOf(learned(set.n))}")`);
  }
  if (set.view === "between") {
    const label = set.label ? `"${set.label}"` : labelsOf(1)?.[0];
    if (label !== undefined) open.push(`model = guided(model, ${label}, ${set.guidance})`);
    open.push(`seeds = [${set.seed}, ${set.other}]`);
    open.push("a, b = (randn((1, 1, 32, 32), generator=image_generators(seed, 0, 1)) for seed in seeds)");
    open.push(`states = solver_trajectory(model, slerp(a, b, ${set.w}), schedule, ${how.join(", ")}, clip=(-1, 1))`);
    return [...open, "show_images(last_x0(states))"].join("\n");
  }
  if (set.label) how.push(`labels="${set.label}"`);
  if (set.guidance !== 1) how.push(`guidance=${set.guidance}`);
  how.push(`seed=${set.seed}`, 'precision="fp32"');
  if (set.view === "steps") {
    const times = { heun: "(S + 1)//2", ab3: "max(1, S - 1)" }[set.solver] ?? "S";
    how[0] = `timesteps=${times}`;
    if (set.solver === "learned") {
      how[0] = "timesteps=solver.timesteps";
      const files = solvers().map((solver) => `"${fileOf(solver)}"`);
      open.push(`for solver in map(load_solver, [${files.join(", ")}]):`);
    } else open.push(`for S in [${countsShown().join(", ")}]:`);
    open.push(`    images = sample_images(model, schedule, 3, ${how.join(", ")})`);
    return [...open, "    show_images(images)"].join("\n");
  }
  const n = set.view === "draw" ? 4 : 9;
  const lines = [...open, `images = sample_images(model, schedule, ${n}, ${how.join(", ")})`, "show_images(images)"];
  return (set.view === "draw" ? ["# without the drawing, these four would form", ...lines] : lines).join("\n");
}

const countsShown = () => (set.solver === "learned" ? solvers().map(evaluations) : STEPS);
const fileOf = (solver) => solver.file.replace(/.*\//, "");

// ------------------------------------------------------------------------------------------------------- drawing

function paint(canvas, bytes, columns) {
  // grey images (N, h, w), side by side
  const [h, w] = imageSize(),
    n = bytes.length / (h * w),
    rows = Math.ceil(n / columns);
  if (canvas.width !== columns * w || canvas.height !== rows * h)
    Object.assign(canvas, { width: columns * w, height: rows * h });
  const picture = canvas.getContext("2d").createImageData(columns * w, rows * h);
  picture.data.fill(255);
  for (let k = 0; k < n; k++)
    for (let i = 0; i < h; i++)
      for (let j = 0; j < w; j++) {
        const at = 4 * ((Math.floor(k / columns) * h + i) * columns * w + (k % columns) * w + j),
          v = 255 - bytes[(k * h + i) * w + j]; // dark on white, as the library shows garments
        picture.data[at] = picture.data[at + 1] = picture.data[at + 2] = v;
      }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function imageSize() {
  const size = facts.config.image_size ?? facts.config.sample_size;
  return Array.isArray(size) ? size : [size, size];
}

function drawCurves() {
  // alpha-bar, the visited times, and the noise that each step adds
  const W = 320,
    H = 120,
    T = schedule.nSteps,
    X = (t) => 8 + (W - 16) * (1 - (t + 1) / T),
    Y = (v) => H - 22 - (H - 34) * v;
  const at = (t, v) => `${X(t).toFixed(1)},${Y(v).toFixed(1)}`,
    steps = stepsFor(set.n),
    fresh = steps.filter((s) => s.sigma);
  const shown = Array.from({ length: 101 }, (_, k) => Math.round((k * (T - 1)) / 100));
  const curve = shown.map((t) => at(t, schedule.at(t))).join(" ");
  const dots = steps.map((s) => `<circle cx="${X(s.t)}" cy="${Y(schedule.at(s.t))}" r="2.6"/>`).join("");
  const stems = fresh.map((s) => `<path d="M${at(s.t_prev, 0)}L${at(s.t_prev, s.sigma)}"/>`).join("");
  const most = Math.max(0, ...fresh.map((s) => s.sigma)).toFixed(2);
  const words = `Alpha-bar over time with ${steps.length} steps on it; largest fresh noise of a step ${most}`;
  $("curves").innerHTML = `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${words}">
    <path class="axis" d="M8,${Y(0)}H${W - 8}"/><polyline points="${curve}"/>
    <g class="visited">${dots}</g><g class="fresh">${stems}</g>
    <text x="8" y="${H - 7}">t = ${T - 1}, noise</text>
    <text x="${W - 8}" y="${H - 7}" text-anchor="end">clean</text></svg>`;
  const bars = fresh.length ? ", bars: <i>&sigma;</i><sub>t</sub>, the fresh noise of a step" : "";
  const times = new Set(steps.map((s) => s.t)).size;
  $("legend").innerHTML = `line: <i>&#x1FB1;</i><sub>t</sub>, dots: the visited times, ${times}${bars}`;
}

// ------------------------------------------------------------------------------------------------------- running

function say(text) {
  $("status").textContent = text;
}

function ask(message, onState) {
  // a run of the worker; resolves to true when it is done, to false when it was stopped
  stop();
  const id = ++job,
    tic = performance.now();
  root.setAttribute("aria-busy", "true");
  $("stop").disabled = false;
  return new Promise((resolve, reject) => {
    const end = (done, error) => {
      if (id === job) {
        listen = null;
        root.setAttribute("aria-busy", "false");
        $("stop").disabled = true;
      }
      error ? reject(new Error(error)) : resolve(done && performance.now() - tic);
    };
    listen = {
      id,
      cancel: () => end(false),
      hear: (data) => {
        if (data.kind === "state") onState(data);
        if (data.kind === "done") end(true);
        if (data.kind === "stopped") end(false);
        if (data.kind === "failed") end(false, data.error);
      },
    };
    worker.postMessage({ kind: "run", id, ...message });
  });
}

function stop() {
  // whatever runs
  if (!listen) return;
  const { cancel } = listen;
  job += 1;
  worker.postMessage({ kind: "stop", id: job });
  listen = null;
  cancel();
  root.setAttribute("aria-busy", "false");
  $("stop").disabled = true;
}

function labelsOf(n) {
  // numbers for the network, or null; nobody asked: as the library spreads them
  if (!names().length) return null;
  const place = names().indexOf(set.label),
    spread = spreadLabels(set.seed, 0, n, names().length);
  return Array.from({ length: n }, (_, k) => (place >= 0 ? place : spread[k]));
}

function common(n, count = set.n) {
  return {
    seed: set.seed,
    n,
    steps: stepsFor(count),
    schedule: { alphaBar: schedule.alphaBar },
    labels: labelsOf(n),
    nullLabel: facts.config.null_class,
    guidance: set.guidance,
  };
}

function describe(canvas, text) {
  canvas.setAttribute("aria-label", text);
}

const views = {
  async nine() {
    const kind = set.label || "garments";
    return ask(common(9), ({ done, of, t, x_t, x_0 }) => {
      if (calm.matches && done < of) return;
      paint($("x_t"), x_t, 3);
      if (x_0) paint($("x_0"), x_0, 3);
      describe($("x_t"), `x_t of nine ${kind}, after ${done} of ${of} evaluations`);
      describe($("x_0"), `predicted x_0 of nine ${kind}, after ${done} of ${of} evaluations`);
      say(`${done} of ${of} evaluations${t >= 0 ? `, t = ${t}` : ""}`);
    });
  },

  async steps() {
    let took = 0;
    $("ladder").replaceChildren(
      ...countsShown().map((count) => {
        const figure = document.createElement("figure"),
          canvas = document.createElement("canvas"),
          caption = document.createElement("figcaption");
        caption.textContent = `${count} evaluations`;
        canvas.setAttribute("role", "img");
        Object.assign(canvas, { width: imageSize()[1], height: 3 * imageSize()[0] });
        describe(canvas, `three samples of ${count} evaluations, on their way`);
        figure.append(canvas, caption);
        return figure;
      }),
    );
    for (const [k, count] of countsShown().entries()) {
      const canvas = $("ladder").querySelectorAll("canvas")[k];
      const ms = await ask(common(3, count), ({ done, of, x_t, x_0 }) => {
        if (done === of || !calm.matches) paint(canvas, x_0 ?? x_t, 1);
        say(`${count} evaluations: ${done} of ${of}`);
      });
      if (ms === false) return false;
      describe(canvas, `three samples of ${count} evaluations`);
      took += ms;
    }
    return took;
  },

  async between() {
    const weights = [0, set.w, 1],
      message = { ...common(3), between: { seed: set.other, weights } };
    if (message.labels) message.labels = Array(3).fill(message.labels[0]);
    return ask(message, ({ done, of, x_t, x_0 }) => {
      if (calm.matches && done < of) return;
      paint($("way"), x_0 ?? x_t, 3);
      describe(
        $("way"),
        `left seed ${set.seed}, right seed ${set.other}, between them ${Math.round(100 * set.w)} per cent of the way`,
      );
      say(`${done} of ${of} evaluations`);
    });
  },

  async draw() {
    const [H, W] = facts.config.sample_size,
      [h, w] = imageSize(),
      top = (H - h) >> 1,
      left = (W - w) >> 1;
    const image = new Float32Array(H * W).fill(-1),
      mask = new Float32Array(H * W),
      half = $("half").value;
    for (let i = 0; i < H; i++)
      for (let j = 0; j < W; j++) {
        const inside = i >= top && i < top + h && j >= left && j < left + w;
        if (inside) image[i * W + j] = sketch[(i - top) * w + j - left] / 127.5 - 1;
        mask[i * W + j] = half === "left" ? Number(j < W / 2) : half === "top" ? Number(i < H / 2) : Number(i >= H / 2);
      }
    return ask({ ...common(4), known: { image, mask } }, ({ done, of, x_t, x_0 }) => {
      if (calm.matches && done < of) return;
      paint($("finished"), x_0 ?? x_t, 2);
      describe($("finished"), `four ways to finish the drawing, after ${done} of ${of} evaluations`);
      say(`${done} of ${of} evaluations`);
    });
  },
};

async function go() {
  if (!ready) return;
  $("again").disabled = false;
  try {
    const ms = await views[set.view]();
    if (ms === false) {
      if (!listen) say("Stopped.");
      return;
    }
    const n = { nine: 9, steps: 3, between: 3, draw: 4 }[set.view];
    say(`${n} images in ${(ms / 1000).toFixed(1)} s, ${threads() === 1 ? "one thread" : `${threads()} threads`}.`);
    root.dataset.done = String(Number(root.dataset.done ?? 0) + 1);
    root.dataset.ms = String(ms);
  } catch (error) {
    say(`It did not work: ${error.message}`);
  }
}

// -------------------------------------------------------------------------------------------------------- sketch

let sketch = new Uint8ClampedArray(0);

function blank() {
  const [h, w] = imageSize();
  sketch = new Uint8ClampedArray(h * w);
  const inside = (i, j) => {
    // something to begin with: a shirt, from the side of its middle line
    const off = Math.abs(j - (w - 1) / 2),
      neck = i < 5 && off < 3;
    return i >= 3 && i < h - 3 && !neck && (off < 6 || (i < 11 && off < 11 - 0.3 * i));
  };
  for (let i = 0; i < h; i++) for (let j = 0; j < w; j++) if (inside(i, j)) sketch[i * w + j] = 190;
  paintSketch();
}

function paintSketch() {
  const [h, w] = imageSize(),
    half = $("half").value,
    canvas = $("sketch");
  paint(canvas, sketch, 1);
  const context = canvas.getContext("2d");
  context.fillStyle = "rgb(120 120 120 / .75)"; // the part that the network finishes
  if (half === "left") context.fillRect(w / 2, 0, w / 2, h);
  if (half === "top") context.fillRect(0, h / 2, w, h / 2);
  if (half === "bottom") context.fillRect(0, 0, w, h / 2);
}

function brush(x, y) {
  // canvas pixels
  const [h, w] = imageSize(),
    value = Number($("ink").value);
  for (let i = Math.max(0, Math.floor(y - 1.5)); i <= Math.min(h - 1, y + 1.5); i++) {
    for (let j = Math.max(0, Math.floor(x - 1.5)); j <= Math.min(w - 1, x + 1.5); j++) sketch[i * w + j] = value;
  }
  paintSketch();
}

function listenToSketch() {
  const canvas = $("sketch"),
    [h, w] = imageSize(),
    pen = { x: w / 2, y: h / 2 };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * w) / box.width, ((event.clientY - box.top) * h) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    stop();
    brush(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) brush(...at(event));
  });
  canvas.addEventListener("pointerup", go);
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === " ") {
      event.preventDefault();
      brush(pen.x, pen.y);
      say(`drawn at ${pen.x}, ${pen.y}`);
    }
    if (event.key === "Enter") go();
    if (!(event.key in moves)) return;
    event.preventDefault();
    pen.x = Math.min(w - 1, Math.max(0, Math.round(pen.x + moves[event.key][0])));
    pen.y = Math.min(h - 1, Math.max(0, Math.round(pen.y + moves[event.key][1])));
    paintSketch();
    canvas.getContext("2d").fillStyle = "rgb(220 60 40)";
    canvas.getContext("2d").fillRect(pen.x, pen.y, 1, 1);
  });
  $("half").addEventListener("change", () => {
    paintSketch();
    go();
  });
  $("clear").addEventListener("click", () => {
    stop();
    sketch.fill(0);
    paintSketch();
  });
}

// --------------------------------------------------------------------------------------------------------- knobs

function threads() {
  return self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}

function linkTo(solver, k) {
  const text = fileOf(solver),
    href = new URL(solver.file, import.meta.url).href;
  return [k ? ", " : "", Object.assign(document.createElement("a"), { href, textContent: text, download: text })];
}

function fill(select, pairs) {
  select.replaceChildren(
    ...pairs.map(([value, text]) => Object.assign(document.createElement("option"), { value, textContent: text })),
  );
}

function show() {
  // the settings in the knobs, the link and the line
  settle();
  for (const knob of root.querySelectorAll("[data-knob]")) {
    const key = knob.dataset.knob;
    if (knob.value !== String(set[key])) knob.value = set[key];
    const out = root.querySelector(`output[data-of="${key}"]`);
    if (out) out.textContent = set[key];
  }
  for (const panel of root.querySelectorAll("[data-view]")) panel.hidden = panel.dataset.view !== set.view;
  $("eta").hidden = set.solver !== "ddim";
  $("spacing").hidden = set.solver === "learned";
  $("evaluations").hidden = set.view === "steps" || set.solver === "learned";
  $("fitted").hidden = set.view === "steps" || set.solver !== "learned";
  $("other").hidden = set.view !== "between";
  $("labels").hidden = !names().length;
  $("guides").hidden = !names().length || set.solver === "learned";
  $("files").hidden = set.solver !== "learned";
  $("python").textContent = python();
  drawCurves();
  writeLink();
}

let waiting = 0;
function turned(event) {
  const knob = event.target.closest("[data-knob]");
  if (!knob) return;
  const key = knob.dataset.knob,
    numeric = key in LIMITS;
  if (numeric && (knob.value === "" || !knob.checkValidity()))
    return say(`${knob.getAttribute("aria-label") ?? key} must be from ${LIMITS[key].join(" to ")}.`);
  set[key] = numeric ? Number(knob.value) : knob.value;
  show();
  clearTimeout(waiting);
  stop();
  waiting = setTimeout(go, 120); // a slider on its way asks once
}

async function start() {
  $("start").disabled = true;
  $("loading").hidden = false;
  worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  const failed = (text) => {
    say(`The network could not be opened: ${text}`);
    $("loading").hidden = true;
    $("start").disabled = false;
    worker.terminate();
  };
  worker.onerror = (event) => failed(event.message ?? "the worker did not start");
  worker.onmessage = ({ data }) => {
    if (data.kind === "progress") {
      $("bar").value = data.done / data.total;
      return;
    }
    if (data.kind === "failed" && !ready) {
      failed(data.error);
      return;
    }
    if (data.kind !== "loaded") {
      if (listen && data.id === listen.id) listen.hear(data);
      return;
    }
    ready = true;
    root.dataset.ready = String(threads());
    $("loading").hidden = $("film").hidden = $("begin").hidden = true;
    $("stage").hidden = false;
    if ([document.body, $("start")].includes(document.activeElement)) $("again").focus({ preventScroll: true });
    blank();
    go();
  };
  worker.postMessage({ kind: "load", assets, threads: threads() });
}

function prepare() {
  if (!assets) {
    $("why").textContent =
      "This copy of the site was built without npm, so the network is not in it. " +
      "With it, images like these would form in your browser.";
    return;
  }
  facts = assets.facts;
  schedule = SCHEDULES[facts.schedule.kind] ? SCHEDULES[facts.schedule.kind](facts.schedule) : SCHEDULES.table(facts);
  fill($("view"), Object.entries(VIEWS));
  fill($("label"), [["", "all of them"], ...names().map((name) => [name, name])]);
  fill(
    $("solver"),
    Object.entries(NAMES).filter(([name]) => name !== "learned" || solvers().length),
  );
  fill(
    $("counts"),
    solvers().map((solver) => [evaluations(solver), evaluations(solver)]),
  );
  $("files").replaceChildren("The coefficients: ", ...solvers().flatMap(linkTo));
  fill(
    $("spacings"),
    Object.keys(SPACINGS).map((name) => [name, name]),
  );
  readLink();
  show();
  $("why").textContent =
    `${(assets.transferred / 1e6).toFixed(1)} MB are fetched from this site, and nothing from anywhere else. ` +
    (threads() > 1
      ? `${threads()} threads will work.`
      : "One thread will work: this host does not isolate its pages, which several need.");
  $("start").hidden = $("knobs").hidden = false;
  $("start").addEventListener("click", start);
  $("again").addEventListener("click", go);
  $("stop").addEventListener("click", () => {
    stop();
    say("Stopped.");
  });
  $("knobs").addEventListener("input", turned);
  addEventListener("hashchange", () => {
    readLink();
    show();
    go();
  });
  listenToSketch();
}

prepare();

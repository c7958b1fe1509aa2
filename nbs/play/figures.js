// Small figures with a knob, for pages that explain one: what is drawn is computed by ddim.js. Without JavaScript, and
// on paper, the page's own figure above each of them says the same for a few settings.
import { Generator, SCHEDULES, moved, plan } from "./ddim.js";

// ------------------------------------------------------------------------------------------- what the figures show

export const NOISES = { // the rows of DDIM's Table 1
  "eta = 0": { eta: 0 }, "eta = 0.2": { eta: 0.2 }, "eta = 0.5": { eta: 0.5 }, "eta = 1": { eta: 1 },
  "sigma-hat": { variance: "hat" },
};
export const SIZES = [10, 20, 50, 100, 1000], MU = 0.3, CENTRES = [-0.6, 0.5], WIDTH = 0.12;

export function snr(schedule, t) { return schedule.at(t)/(1 - schedule.at(t)); } // power of the signal over the noise's

export function endsAt(schedule, std, S, how) { // mean and std that a sampler of Gaussian data (MU, std) ends with
  let m = 0, v = 1;
  for (const step of plan(schedule, S, { solver: "ddim", spacing: "leading", ...how })) {
    const ab = schedule.at(step.t), k = Math.sqrt(1 - ab)/(ab*std*std + 1 - ab); // the best prediction is linear
    m = moved(m, k*(m - Math.sqrt(ab)*MU), step);
    v = moved(1, k, step)**2*v + step.sigma**2;
  }
  return [m, Math.sqrt(v)];
}

export function distance(schedule, std, S, how) { // Frechet distance to the data
  const [m, spread] = endsAt(schedule, std, S, how);
  return (m - MU)**2 + (spread - std)**2;
}

export function mixtureEps(x, t, schedule) { // E[eps | x_t = x] for numbers near CENTRES, of standard deviation WIDTH
  const ab = schedule.at(t), variance = ab*WIDTH*WIDTH + 1 - ab, away = CENTRES.map(c => x - Math.sqrt(ab)*c);
  const logits = away.map(a => -a*a/(2*variance)), most = Math.max(...logits);
  const shares = logits.map(l => Math.exp(l - most)), total = shares.reduce((a, b) => a + b);
  return Math.sqrt(1 - ab)/variance*away.reduce((sum, a, k) => sum + shares[k]/total*a, 0);
}

export function paths(schedule, starts, S, eta, z) { // z(i): the noise of step i, one a start; [times, xs of each time]
  const times = [schedule.nSteps - 1], seen = [starts];
  plan(schedule, S, { solver: "ddim", eta }).forEach((step, i) => {
    const noise = step.sigma ? z(i) : starts.map(() => 0);
    times.push(step.t_prev);
    seen.push(seen.at(-1).map((x, k) => moved(x, mixtureEps(x, step.t, schedule), step, noise[k])));
  });
  return [times, seen];
}

// ------------------------------------------------------------------------------------------------------- drawing

const COLOURS = ["#4a86e0", "#d98324", "#3aa568", "#e0525a", "currentColor"];

function number(v) { // for a reader
  return Math.abs(v) >= 0.01 && Math.abs(v) < 1000 ? String(Number(v.toPrecision(3))) : v.toExponential(1);
}

// lines: {points: [[x, y], ...], colour, width, dots}; x, y: {at: number -> [0, 1], ticks: [[number, text], ...], name}
function panel(W, H, { x, y, lines, title, mark }) {
  const [left, right, top, bottom] = [46, 20, 28, 38], inner = [W - left - right, H - top - bottom];
  const X = v => left + inner[0]*x.at(v), Y = v => top + inner[1]*(1 - y.at(v));
  const line = (d, more) => `<path d="${d}" ${more}/>`, upright = v => `M${X(v)},${top}v${inner[1]}`;
  const grid = [...x.ticks.map(([v]) => upright(v)), ...y.ticks.map(([v]) => `M${left},${Y(v)}h${inner[0]}`)];
  const clip = v => Math.min(Math.max(v, top), H - bottom);
  const curves = lines.map(({ points, colour, width = 1.6, dots, opacity = 1 }) => {
    const places = points.map(([a, b]) => [X(a).toFixed(1), clip(Y(b)).toFixed(1)]);
    const circles = places.map(([a, b]) => `<circle cx="${a}" cy="${b}" r="3" fill="${colour}"/>`).join("");
    const style = `stroke="${colour}" opacity="${opacity}" stroke-width="${width}"`;
    return line(`M${places.map(place => place.join(",")).join("L")}`, style) + (dots ? circles : "");
  });
  const here = mark === undefined ? "" : line(upright(mark), `stroke="currentColor" stroke-dasharray="3 3"`);
  const low = H - bottom + 15;
  const xs = x.ticks.map(([v, text]) => `<text x="${X(v)}" y="${low}" text-anchor="middle">${text}</text>`);
  const ys = y.ticks.map(([v, text]) => `<text x="${left - 6}" y="${Y(v) + 4}" text-anchor="end">${text}</text>`);
  return `<svg viewBox="0 0 ${W} ${H}" width="${W}" height="${H}" aria-hidden="true" fill="none">
    ${line(grid.join(""), `stroke="currentColor" opacity=".14"`)}${curves.join("")}${here}${xs.join("")}${ys.join("")}
    <text x="${left}" y="15" class="head">${title}</text>
    <text x="${W - right}" y="${H - 4}" text-anchor="end">${x.name}</text></svg>`;
}

const straight = (low, high, ticks, name) => ({ at: v => (v - low)/(high - low), ticks: ticks.map(v => [v, v]), name });
const logs = (low, high, ticks, name) => {
  const at = v => Math.log(Math.max(v, 1e-300)/low)/Math.log(high/low);
  return { at, ticks: ticks.map(v => [v, v >= 0.01 && v <= 1000 ? v : `1e${Math.round(Math.log10(v))}`]), name };
};
const range = (name, label, more) => `<label>${label} <input type="range" name="${name}" ${more}></label>`;
const choice = (name, label, options) =>
  `<label>${label} <select name="${name}"><option>${options.join("<option>")}</select></label>`;
const key = names => names.map((n, k) => `<span><i style="background:${COLOURS[k]}"></i>${n}</span>`).join(" ");

// each: knobs, a legend, and draw(values) -> panels side by side, words under them
const KINDS = ["linear", "cosine", "sigmoid"], ROWS = Object.keys(NOISES);
const FIGURES = {
  schedules: {
    knobs: range("t", "time t", `min="0" max="999" value="500"`),
    legend: key(KINDS),
    draw({ t }) {
      const all = KINDS.map(kind => SCHEDULES[kind]({})), mark = Number(t);
      const x = straight(0, 999, [0, 250, 500, 750], "t");
      const shown = Array.from({ length: 201 }, (_, k) => Math.min(999, 5*k));
      const lines = f => all.map((s, k) => ({ points: shown.map(u => [u, f(s, u)]), colour: COLOURS[k] }));
      const left = { y: straight(0, 1, [0, 0.5, 1]), lines: lines((s, u) => s.at(u)), title: "alpha-bar" };
      const right = { y: logs(1e-6, 1e5, [1e-6, 1e-3, 1, 1000]), lines: lines(snr), title: "signal-to-noise ratio" };
      const told = all.map((s, k) => `${KINDS[k]} ${number(s.at(mark))} and ${number(snr(s, mark))}`);
      const words = `Alpha-bar and signal-to-noise ratio at t = ${mark}: ${told.join("; ")}.`;
      return [[{ x, mark, ...left }, { x, mark, ...right }], words];
    },
  },
  table1: {
    knobs: range("width", "width of the data", `min="-2" max="-0.3" step="0.05" value="-1.7"`),
    legend: key(ROWS),
    draw({ width }) {
      const std = 10**width, schedule = SCHEDULES.linear({});
      const rows = ROWS.map(name => SIZES.map(S => distance(schedule, std, S, NOISES[name])));
      const lines = rows.map((row, k) =>
        ({ points: SIZES.map((S, i) => [S, row[i]/rows[0][i]]), colour: COLOURS[k], dots: true }));
      const best = SIZES.map((_, i) => rows.reduce((b, row, k) => row[i] < rows[b][i] ? k : b, 0));
      const title = `distance / distance at eta = 0, width ${number(std)}`;
      const above = lines.some(({ points }) => points.some(([, ratio]) => ratio > 10));
      const beyond = above ? " Points on the upper edge lie above it." : "";
      const words = `Closest to the data: ${SIZES.map((S, i) => `${ROWS[best[i]]} at S = ${S}`).join(", ")}.${beyond}`;
      return [[{ x: logs(10, 1000, SIZES, "S, steps"), y: logs(0.03, 10, [0.1, 1, 10]), lines, title }], words];
    },
  },
  trajectories: {
    knobs: range("eta", "eta", `min="0" max="1" step="0.05" value="0"`) + choice("S", "steps", [1000, 100, 20, 10])
      + `<button type="button">other noise</button>`,
    legend: "",
    draw({ eta, S, seed }) {
      const schedule = SCHEDULES.linear({}), starts = Array.from({ length: 12 }, (_, k) => -2 + 4*k/11);
      const generator = new Generator(seed), z = () => generator.randn(16).slice(0, 12);
      const [times, seen] = paths(schedule, starts, Number(S), Number(eta), z), ends = seen.at(-1);
      const styles = { 5: { colour: COLOURS[0], width: 1.6 }, 6: { colour: COLOURS[1], width: 1.6 } }; // two neighbours
      const lines = starts.map((_, k) => ({ points: times.map((t, i) => [-t, seen[i][k]]), colour: "currentColor",
                                            width: 1.1, opacity: k in styles ? 1 : 0.4, ...styles[k] }));
      const swapped = ends.slice(1).filter((x, k) => x < ends[k]).length;
      const x = { ...straight(-999, 1, [], "t, from noise to data"), ticks: [999, 750, 500, 250, 0].map(t => [-t, t]) };
      const title = `x of twelve starts, eta = ${eta}, ${S} steps`;
      const words = `Of the 11 pairs of neighbours, ${swapped} end in another order than they began.`;
      return [[{ x, y: straight(-2.6, 2.6, [-2, -1, 0, 1, 2]), lines, title }], words];
    },
  },
};

const STYLE = `
[data-figure] { margin: 1.2rem 0; text-align: left; }
[data-figure] form { display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; align-items: center; margin-bottom: .5rem; }
[data-figure] label { display: flex; gap: .6rem; align-items: center; font-size: .92rem; }
[data-figure] :is(select, button) { min-height: 2.2rem; padding: .25rem .7rem; font: inherit; font-size: .92rem;
  color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 5px; }
[data-figure] option { color: CanvasText; background: Canvas; }
[data-figure] input { width: 16rem; max-width: 55vw; min-height: 2.2rem; }
[data-figure] svg { max-width: 100%; height: auto; }
[data-figure] text { font-size: 12px; fill: currentColor; }
[data-figure] .head { font-size: 13px; }
[data-figure] :is(.key, figcaption) { font-size: .92rem; text-align: left; }
[data-figure] .key span { margin-right: 1.1rem; white-space: nowrap; }
[data-figure] .key i { display: inline-block; width: 1.1rem; height: .2rem; margin-right: .4rem;
  vertical-align: middle; }
@media print { [data-figure] { display: none; } }`;

function mount(figure) { // knobs above, panels, words below
  const { knobs, legend, draw } = FIGURES[figure.dataset.figure], values = { seed: 3 };
  figure.innerHTML = `<form aria-label="${figure.getAttribute("aria-label")}">${knobs}</form><div class="panels"></div>
    <div class="key">${legend}</div><figcaption role="status"></figcaption>`;
  figure.hidden = false;
  const [form, panels, words] = ["form", ".panels", "figcaption"].map(part => figure.querySelector(part));
  let drawn = 0;
  const show = () => {
    drawn = figure.clientWidth;
    Object.assign(values, Object.fromEntries(new FormData(form)));
    const width = Math.min(drawn, 680), [parts, said] = draw(values);
    const each = width < 520 ? width : Math.floor((width - 8)/parts.length);
    panels.innerHTML = parts.map(part => panel(each, parts.length > 1 ? 220 : 270, part)).join(" ");
    words.textContent = said;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", event => event.preventDefault());
  form.querySelector("button")?.addEventListener("click", () => { values.seed += 1; show(); });
  new ResizeObserver(() => { if (figure.clientWidth !== drawn) requestAnimationFrame(show); }).observe(figure);
}

if (typeof document !== "undefined") {
  document.head.append(Object.assign(document.createElement("style"), { textContent: STYLE }));
  document.querySelectorAll("[data-figure]").forEach(mount);
}

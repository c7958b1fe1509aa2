// The sampler of the course in JavaScript: noise, a schedule, a step, a loop. The names are those of the Python
// library, and so are the formulas: tests/test_play.py compares coefficients (1e-12), noise (1e-6) and images.

// --------------------------------------------------------------------------------------------------------- noise
// Image i of a run depends on (seed, i) alone. Its generator is PyTorch's: a Mersenne twister and Box-Muller.

const f = Math.fround; // to float32, in which the library computes images and noise
const MASK = (1n << 64n) - 1n, TURN = f(2*Math.PI);

export function mixSeed(...parts) { // splitmix64; parts: integers in [0, 2^64), a BigInt in [0, 2^63) comes out
  let h = 0n;
  for (const part of parts) {
    h = ((h ^ BigInt(part)) + 0x9E3779B97F4A7C15n) & MASK;
    h = ((h ^ (h >> 30n))*0xBF58476D1CE4E5B9n) & MASK;
    h = ((h ^ (h >> 27n))*0x94D049BB133111EBn) & MASK;
    h ^= h >> 31n;
  }
  return h >> 1n;
}

export function imageSeed(seed, i) { // the 32 bits that seed the generator of image i
  let h = Number((mixSeed(seed) + BigInt(i)) & 0xFFFFFFFFn);
  for (const [shift, factor] of [[16, 0x85EBCA6B], [13, 0xC2B2AE35]]) h = Math.imul(h ^ (h >>> shift), factor) >>> 0;
  return (h ^ (h >>> 16)) >>> 0;
}

export class Generator { // the Mersenne twister MT19937
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1];
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
    this.next = 624;
  }

  refill() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7FFFFFFF);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908B0DF : 0);
    }
    this.next = 0;
  }

  bits() { // 32 random bits
    if (this.next === 624) this.refill();
    let y = this.state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9D2C5680;
    y ^= (y << 15) & 0xEFC60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  randn(n) { // standard normal, n a multiple of 16: in each 16 uniform numbers, the first 8 make the lengths
    if (n % 16) throw new RangeError(`n must be a multiple of 16, got ${n}`);
    const z = new Float32Array(n);
    for (let i = 0; i < n; i++) z[i] = (this.bits() & 0xFFFFFF)/0x1000000;
    for (let block = 0; block < n; block += 16) {
      for (let i = block; i < block + 8; i++) {
        const length = f(Math.sqrt(f(-2*f(Math.log(f(1 - z[i])))))), angle = f(TURN*z[i + 8]);
        z[i] = length*f(Math.cos(angle));
        z[i + 8] = length*f(Math.sin(angle));
      }
    }
    return z;
  }
}

export function spreadLabels(seed, start, n, nLabels) { // where nobody asks for a label: all of them, evenly
  const found = [];
  for (let block = Math.floor(start/nLabels); found.length < n + start % nLabels; block++) {
    const order = [...Array(nLabels).keys()];
    const generator = new Generator(Number(mixSeed(seed, block) & 0xFFFFFFFFn));
    for (let i = 0; i < nLabels - 1; i++) {
      const j = i + generator.bits() % (nLabels - i);
      [order[i], order[j]] = [order[j], order[i]];
    }
    found.push(...order);
  }
  return found.slice(start % nLabels, start % nLabels + n);
}

// ------------------------------------------------------------------------------------------------------ schedule
// A table of alpha-bar: the share of the image's variance that is left at each time; at time -1, clean, it is 1.

export class Schedule {
  constructor(alphaBar) { this.alphaBar = alphaBar; }
  get nSteps() { return this.alphaBar.length; }
  at(t) { return t === -1 ? 1 : this.alphaBar[t]; }
  sigma(t) { return Math.sqrt((1 - this.at(t))/this.at(t)); } // noise-to-signal ratio, DDIM eq. 13
}

function linspace(first, last, n) {
  const step = (last - first)/(n - 1);
  return Array.from({length: n}, (_, i) => i < n/2 ? first + step*i : last - step*(n - 1 - i));
}

function fromBetas(betas) {
  let left = 1;
  return new Schedule(betas.map(beta => left *= 1 - beta));
}

function tabulate(f, n_steps, max_beta) { // alpha-bar as a function on [0, 1]
  const level = Array.from({length: n_steps + 1}, (_, i) => f(i/n_steps));
  return fromBetas(level.slice(1).map((b, i) => Math.min(1 - b/level[i], max_beta)));
}

export const SCHEDULES = {
  linear: ({n_steps = 1000, beta_min = 1e-4, beta_max = 0.02}) => fromBetas(linspace(beta_min, beta_max, n_steps)),
  cosine: ({n_steps = 1000, s = 0.008, max_beta = 0.999}) =>
    tabulate(u => Math.cos((u + s)/(1 + s)*Math.PI/2)**2, n_steps, max_beta),
  sigmoid: ({n_steps = 1000, start = -3, end = 3, temperature = 1, max_beta = 0.999}) => {
    const sig = v => 1/(1 + Math.exp(-v/temperature)), range = sig(end) - sig(start);
    return tabulate(u => (sig(end) - sig(start + u*(end - start)))/range, n_steps, max_beta);
  },
  table: ({alpha_bar}) => new Schedule(alpha_bar),
};

function roundRatio(a, b) { // a/b to the nearest integer, halves to the even one
  const whole = Math.floor(a/b), twice = 2*(a - whole*b);
  return twice > b || (twice === b && whole % 2 === 1) ? whole + 1 : whole;
}

const falling = (S, f) => Array.from({length: S}, (_, i) => f(S - 1 - i)); // f(S-1), ..., f(0)

export const SPACINGS = { // (schedule, S) -> S times to visit, falling
  trailing: ({nSteps: T}, S) => Array.from({length: S}, (_, i) => roundRatio(T*(S - i), S) - 1),
  leading: ({nSteps: T}, S) => falling(S, i => i*Math.floor(T/S)),
  linspace: ({nSteps: T}, S) => S === 1 ? [T - 1] : falling(S, i => roundRatio((T - 1)*i, S - 1)),
  quadratic: ({nSteps: T}, S) =>
    S === 1 ? [T - 1] : falling(S, i => Math.max(i, roundRatio((T - 1)*i*i, (S - 1)**2))),
  logsnr: (schedule, S) => {
    const T = schedule.nSteps, logs = schedule.alphaBar.map((_, t) => Math.log(schedule.sigma(t)));
    const ends = [Math.log(80), Math.log(0.03)], wanted = S === 1 ? [ends[0]] : linspace(...ends, S);
    const nearest = w => logs.reduce((best, v, t) => Math.abs(v - w) < Math.abs(logs[best] - w) ? t : best, 0);
    const picks = wanted.map(w => nearest(Math.min(Math.max(w, logs[0]), logs[T - 1])));
    for (let k = S - 2; k >= 0; k--) picks[k] = Math.max(picks[k], picks[k + 1] + 1); // no time twice
    return picks.map((t, k) => Math.min(t, T - 1 - k));
  },
};

// ---------------------------------------------------------------------------------------------------------- step
// One move is x_prev = of_x0 x_0 + of_eps eps + sigma z (DDIM eq. 12), plus past estimates for some solvers.

export function coefficients(t, t_prev, schedule, eta = 0, variance = "posterior") { // DDIM eq. 12 and 16
  const ab = schedule.at(t), abPrev = schedule.at(t_prev), hat = variance === "hat", scale = hat ? 1 : eta;
  const added = abPrev < 1 ? 1 - ab/abPrev : 0; // none where the image is clean
  const share = scale ? scale*Math.sqrt(added*(1 - abPrev)/(1 - ab)) : 0;
  const sigma = hat ? Math.sqrt(added) : share; // sigma-hat adds more noise than is taken away
  const of_eps = Math.sqrt(Math.max(0, 1 - abPrev - share*share));
  const signal = Math.sqrt(ab), noise = Math.sqrt(1 - ab), of_x0 = Math.sqrt(abPrev);
  return {t, t_prev, signal, noise, of_x0, of_eps, sigma, of_past: []};
}

function heun(path, i, schedule) { // a move, then its correction by the slope found where it arrived
  const [t, p] = path.slice(i, i + 2), step = coefficients(t, p, schedule);
  if (p === -1) return [step];
  const stay = coefficients(p, p, schedule), change = 0.5*stay.signal*(schedule.sigma(p) - schedule.sigma(t));
  return [step, {...stay, of_eps: stay.of_eps + change, of_past: [[0, -change]]}];
}

function ab2(path, i, schedule) {
  const step = coefficients(path[i], path[i + 1], schedule);
  if (i === 0 || path[i + 1] === -1) return [step];
  const [before, now, then] = path.slice(i - 1, i + 2).map(t => schedule.sigma(t));
  const change = step.of_x0*(then - now)**2/(2*(now - before));
  return [{...step, of_eps: step.of_eps + change, of_past: [[0, -change]]}];
}

function ab3(path, i, schedule) {
  if (i === 0) return heun(path, i, schedule);
  if (i === 1 || path[i + 1] === -1) {
    const [step] = ab2(path, i, schedule); // Heun's second evaluation lies between the slopes: it has no weight
    return i === 1 ? [{...step, of_past: [[0, 0], ...step.of_past]}] : [step];
  }
  const step = coefficients(path[i], path[i + 1], schedule);
  const [second, first, now, then] = path.slice(i - 2, i + 2).map(t => schedule.sigma(t));
  const h = then - now, u1 = first - now, u2 = second - now;
  const w1 = step.of_x0*h*h*(2*h - 3*u2)/(6*u1*(u1 - u2));
  const w2 = step.of_x0*h*h*(2*h - 3*u1)/(6*u2*(u2 - u1));
  const between = i === 2 ? [[0, 0]] : [];
  return [{...step, of_eps: step.of_eps - w1 - w2, of_past: [[0, w1], ...between, [0, w2]]}];
}

function dpmpp_2m(path, i, schedule) { // DPM-Solver++, two steps (Lu et al., 2022, algorithm 2)
  const step = coefficients(path[i], path[i + 1], schedule);
  if (i === 0 || path[i + 1] === -1) return [step];
  const [before, now, then] = path.slice(i - 1, i + 2).map(t => schedule.sigma(t));
  const change = step.of_x0*(1 - then/now)*Math.log(now/then)/(2*Math.log(before/now));
  return [{...step, of_x0: step.of_x0 + change, of_past: [[-change, 0]]}];
}

export const SOLVERS = { // (path, i, schedule, eta) -> the steps of the move from path[i] to path[i + 1]
  ddim: (path, i, schedule, eta, variance) => [coefficients(path[i], path[i + 1], schedule, eta, variance)],
  ddpm: (path, i, schedule) => [coefficients(path[i], path[i + 1], schedule, 1)],
  ab2, dpmpp_2m, heun, ab3,
};

export function plan(schedule, timesteps, {solver = "dpmpp_2m", eta = 0, spacing = "trailing", variance} = {}) {
  if (eta && solver !== "ddim") throw new RangeError(`solver ${solver} has no eta, got ${eta}`);
  const times = Array.isArray(timesteps) ? timesteps : SPACINGS[spacing](schedule, timesteps), path = [...times, -1];
  return times.flatMap((_, i) => SOLVERS[solver](path, i, schedule, eta, variance));
}

export function fittedPlan({kind, timesteps, coefficients: rows}, schedule) { // a file of `slowddim fit-solver`
  if (kind !== "slowddim solver") throw new TypeError(`kind must be "slowddim solver", got ${kind}`);
  const path = [...timesteps, -1];
  return rows.map(([[of_x0, of_eps], ...of_past], i) =>
    ({...coefficients(path[i], path[i + 1], schedule), of_x0, of_eps, of_past}));
}

export function moved(x, eps, step, z = 0) { // one number, in float64; `move` is the same for images
  return step.of_x0*(x - step.noise*eps)/step.signal + step.of_eps*eps + step.sigma*z;
}

export function timesFor(evaluations, solver) { // how many times may be visited with so many network evaluations
  if (solver === "heun") return Math.max(1, Math.floor((evaluations + 1)/2));
  return solver === "ab3" && evaluations > 1 ? Math.max(1, evaluations - 1) : evaluations;
}

// eps, x, z: Float32Arrays of one size; the library rounds a coefficient to float32, and after each operation
export function move(eps, x, step, {z = null, clip = null, past = []} = {}) {
  const [signal, noise, of_x0, of_eps, sigma] = ["signal", "noise", "of_x0", "of_eps", "sigma"].map(k => f(step[k]));
  const x_prev = new Float32Array(x.length), x_0 = new Float32Array(x.length), used = Float32Array.from(eps);
  for (let i = 0; i < x.length; i++) {
    x_0[i] = f(x[i] - f(noise*eps[i]))/signal;
    if (clip) { // as if the network had predicted the clipped image: eps follows it
      x_0[i] = Math.min(Math.max(x_0[i], clip[0]), clip[1]);
      used[i] = f(x[i] - f(signal*x_0[i]))/noise;
    }
    x_prev[i] = f(of_x0*x_0[i]) + f(of_eps*used[i]);
    if (z) x_prev[i] += f(sigma*z[i]);
  }
  step.of_past.slice(0, past.length).forEach(([ofX0, ofEps], k) => {
    const a = f(ofX0), b = f(ofEps);
    for (let i = 0; i < x.length; i++) x_prev[i] = f(x_prev[i] + f(a*past[k].x_0[i])) + f(b*past[k].eps[i]);
  });
  return {x_prev, x_0, eps: used};
}

// ---------------------------------------------------------------------------------------------------------- loop

export function drawEach(generators, size) { // one image's noise from each generator, in one array
  const z = new Float32Array(generators.length*size);
  generators.forEach((generator, k) => z.set(generator.randn(size), k*size));
  return z;
}

export function guided(network, labels, nullLabel, scale) { // network(x, t, labels) -> model(x, t)
  if (labels === null) return network;
  const none = labels.map(() => nullLabel);
  if (scale === 1) return (x, t) => network(x, t, labels);
  if (scale === 0) return (x, t) => network(x, t, none);
  return async (x, t) => {
    const twice = new Float32Array(2*x.length);
    twice.set(x);
    twice.set(x, x.length);
    const both = await network(twice, t, [...none, ...labels]), w = f(scale), n = x.length;
    return x.map((_, i) => both[i] + f(w*f(both[n + i] - both[i])));
  };
}

// known: {image, mask, noise, schedule}; where mask is 1, a state is this image with as much of this noise as its
// time asks (eq. 4)
export async function* trajectory(model, x, steps, {clip = [-1, 1], generators = null, known = null} = {}) {
  const size = generators ? x.length/generators.length : 0, past = [], kept = steps.map(step => step.of_past.length);
  for (const step of steps) {
    const eps = await model(x, step.t), z = step.sigma ? drawEach(generators, size) : null;
    const made = move(eps, x, step, {z, clip, past});
    if (step.t_prev === -1 && !(step.of_x0 === 1 && step.of_eps === 0 && step.of_past.length === 0)) {
      const [low, high] = clip ?? [-Infinity, Infinity]; // this move makes more than the predicted x_0
      made.x_0 = made.x_prev.map(v => Math.min(Math.max(v, low), high));
    }
    if (known) {
      const left = known.schedule.at(step.t_prev), signal = Math.sqrt(left), noise = Math.sqrt(1 - left);
      known.mask.forEach((on, i) => { if (on) made.x_prev[i] = signal*known.image[i] + noise*known.noise[i]; });
    }
    yield {t: step.t, t_prev: step.t_prev, x_t: x, ...made};
    past.unshift({x_0: made.x_0, eps: made.eps});
    past.length = Math.min(past.length, Math.max(...kept));
    x = made.x_prev;
  }
}

export function slerp(a, b, w) { // along the great circle; lengths go from |a| to |b| evenly
  const norm = v => Math.sqrt(v.reduce((sum, c) => sum + c*c, 0)), la = norm(a), lb = norm(b);
  if (w === 0 || w === 1) return Float32Array.from(w ? b : a);
  const cosine = a.reduce((sum, c, i) => sum + c*b[i], 0)/(la*lb);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  const length = (1 - w)*la + w*lb, sine = Math.sin(angle);
  const [ofA, ofB] = [Math.sin((1 - w)*angle)*length/(sine*la), Math.sin(w*angle)*length/(sine*lb)];
  return Float32Array.from(a, (c, i) => ofA*c + ofB*b[i]);
}

export function toPixels(x) { // [-1, 1] -> bytes, halves to the even one
  return Uint8ClampedArray.from(x, v => f(f(v + 1)*127.5)); // a clamped array rounds like that by itself
}

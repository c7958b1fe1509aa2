// Beside the page: opens the network and runs the loop of ddim.js, so that the page never waits.
import * as js from "./ddim.js";

let network = null,
  facts = null,
  newest = 0;

async function fetched({ file, bytes, sha256 }, told) {
  // a file's bytes, checked, with word of how many have come
  const answer = await fetch(new URL(file, import.meta.url));
  if (!answer.ok) throw new Error(`${file}: ${answer.status}`);
  const reader = answer.body.getReader(),
    data = new Uint8Array(bytes);
  let done = 0;
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    if (done + value.length > bytes) throw new Error(`${file} is longer than it was when the site was built`);
    data.set(value, done);
    done += value.length;
    told(value.length);
  }
  if (crypto.subtle) {
    // absent where the page came neither by https nor from this machine
    const digest = [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))]
      .map((b) => b.toString(16).padStart(2, "0"))
      .join("");
    if (digest !== sha256) throw new Error(`${file} is not the file of when the site was built`);
  }
  return data;
}

async function load({ assets, threads }) {
  let done = 0;
  const total = assets.wasm.bytes + assets.model.bytes;
  const told = (n) => {
    done += n;
    postMessage({ kind: "progress", done, total });
  };
  const [wasm, model] = await Promise.all([assets.wasm, assets.model].map((file) => fetched(file, told)));
  const ort = await import(new URL(assets.runtime, import.meta.url));
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmBinary = wasm.buffer;
  ort.env.wasm.wasmPaths = { mjs: new URL(assets.glue, import.meta.url).href };
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  facts = assets.facts;
  const shape = [facts.config.in_channels, ...facts.config.sample_size],
    size = shape.reduce((a, b) => a * b);
  network = async (x, t, labels) => {
    const B = x.length / size,
      longs = (v) => new ort.Tensor("int64", BigInt64Array.from(v, BigInt), [B]);
    const feeds = { x: new ort.Tensor("float32", x, [B, ...shape]), t: longs(Array(B).fill(t)) };
    if (labels) feeds.class_labels = longs(labels);
    const { eps } = await session.run(feeds),
      found = Float32Array.from(eps.data);
    eps.dispose();
    return found;
  };
  postMessage({ kind: "loaded", threads });
}

function cropped(x, size) {
  // images (N, 1, H, W) -> bytes (N, h, w)
  const [H, W] = facts.config.sample_size,
    [h, w] =
      [facts.config.image_size].flat().length === 2
        ? facts.config.image_size
        : [facts.config.image_size ?? H, facts.config.image_size ?? W],
    top = (H - h) >> 1,
    left = (W - w) >> 1;
  const n = x.length / (H * W),
    bytes = js.toPixels(x),
    out = new Uint8ClampedArray(n * h * w);
  for (let k = 0; k < n; k++)
    for (let i = 0; i < h; i++) {
      const from = k * H * W + (top + i) * W + left;
      out.set(bytes.subarray(from, from + w), (k * h + i) * w);
    }
  return out;
}

async function run({
  id,
  seed,
  start = 0,
  n,
  steps,
  schedule,
  labels,
  nullLabel,
  guidance,
  known = null,
  between = null,
}) {
  const size = facts.config.in_channels * facts.config.sample_size[0] * facts.config.sample_size[1],
    tic = performance.now();
  const own = (s, i) => new js.Generator(js.imageSeed(s, i));
  let generators = Array.from({ length: n }, (_, k) => own(seed, start + k)),
    x = js.drawEach(generators, size);
  if (between) {
    // n latents on the way from this seed's first image to that of another
    const [a, b] = [own(seed, start), own(between.seed, start)].map((g) => g.randn(size));
    between.weights.forEach((w, k) => x.set(js.slerp(a, b, w), k * size));
  }
  if (known) {
    const repeat = (v) => {
      const all = new Float32Array(n * size);
      for (let k = 0; k < n; k++) all.set(v, k * size);
      return all;
    };
    const table = new js.Schedule(schedule.alphaBar);
    known = { image: repeat(known.image), mask: repeat(known.mask), noise: x.slice(), schedule: table };
  }
  const model = js.guided(network, labels, nullLabel, guidance),
    clip = [-1, 1];
  postMessage({ kind: "state", id, done: 0, of: steps.length, t: steps[0].t, x_t: cropped(x, size), x_0: null });
  let done = 0;
  for await (const state of js.trajectory(model, x, steps, { clip, generators, known })) {
    await new Promise((resolve) => {
      setTimeout(resolve);
    }); // let a stop in
    if (id !== newest) return postMessage({ kind: "stopped", id });
    done += 1;
    const x_t = cropped(state.x_prev, size),
      x_0 = cropped(known ? state.x_prev.map((v, i) => (known.mask[i] ? v : state.x_0[i])) : state.x_0, size);
    postMessage({ kind: "state", id, done, of: steps.length, t: state.t_prev, x_t, x_0, ms: performance.now() - tic });
  }
  postMessage({ kind: "done", id, ms: performance.now() - tic });
}

onmessage = async ({ data }) => {
  if (data.kind === "run" || data.kind === "stop") newest = data.id;
  try {
    if (data.kind === "load") await load(data);
    if (data.kind === "run") await run(data);
  } catch (error) {
    postMessage({ kind: "failed", id: data.id, error: String(error?.message ?? error) });
  }
};

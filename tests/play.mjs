// Runs one request of tests/test_play.py with nbs/play/ddim.js: a JSON object on stdin, the answer on stdout.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const asked = JSON.parse(readFileSync(0, "utf-8"));
const text = readFileSync(asked.module, "utf-8"); // the page's file is a module, whatever its ending
const js = await import(`data:text/javascript;base64,${Buffer.from(text).toString("base64")}`);
const schedule = () => js.SCHEDULES[asked.schedule.kind](asked.schedule);

const answers = {
  names: () => ({ solvers: Object.keys(js.SOLVERS), spacings: Object.keys(js.SPACINGS) }),
  schedule: () => schedule().alphaBar,
  plans: () => asked.runs.map(({ S, ...how }) => js.plan(schedule(), S, how)),
  fitted: () => js.fittedPlan(asked.file, schedule()),
  noise: () => asked.images.map(([seed, i]) => {
    const generator = new js.Generator(js.imageSeed(BigInt(seed), i));
    return asked.sizes.map(n => [...generator.randn(n)]);
  }),
  labels: () => js.spreadLabels(BigInt(asked.seed), asked.start, asked.n, asked.K),
  slerp: () => [...js.slerp(Float32Array.from(asked.a), Float32Array.from(asked.b), asked.w)],
  pixels: () => [...js.toPixels(Float32Array.from(asked.x))],
  times: () => asked.evaluations.map(n => js.timesFor(n, asked.solver)),
  run: async () => { // images of a run whose network is given: a file for onnxruntime-web, or a formula
    const { seed, start, n, shape, steps, labels, nullLabel, guidance, file, ort } = asked;
    const size = shape[0]*shape[1]*shape[2];
    let network = async (x, t) => x.map(v => Math.fround(v*Math.cos(t)));
    if (file) {
      const runtime = await import(pathToFileURL(ort));
      runtime.env.wasm.numThreads = 1;
      const session = await runtime.InferenceSession.create(new Uint8Array(readFileSync(file)));
      network = async (x, t, given) => {
        const B = x.length/size, longs = v => new runtime.Tensor("int64", BigInt64Array.from(v, BigInt), [B]);
        const feeds = { x: new runtime.Tensor("float32", x, [B, ...shape]), t: longs(Array(B).fill(t)) };
        if (given) feeds.class_labels = longs(given);
        return (await session.run(feeds)).eps.data;
      };
    }
    const generators = Array.from({ length: n }, (_, k) => new js.Generator(js.imageSeed(BigInt(seed), start + k)));
    const model = js.guided(network, labels, nullLabel, guidance);
    let last;
    for await (const state of js.trajectory(model, js.drawEach(generators, size), steps, { generators })) last = state;
    return { x_0: [...last.x_0], pixels: [...js.toPixels(last.x_0)] };
  },
};
process.stdout.write(JSON.stringify(await answers[asked.what]()));

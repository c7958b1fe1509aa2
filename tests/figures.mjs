// Runs one request of tests/test_play_figures.py with nbs/play/figures.js: JSON on stdin, the answer on stdout.
import { readFileSync } from "node:fs";

const asked = JSON.parse(readFileSync(0, "utf-8"));
const address = text => `data:text/javascript;base64,${Buffer.from(text).toString("base64")}`;
const loop = address(readFileSync(`${asked.folder}/ddim.js`, "utf-8")); // modules, whatever their ending
const js = await import(loop);
const figures = await import(address(readFileSync(`${asked.folder}/figures.js`, "utf-8").replace("./ddim.js", loop)));
const schedule = () => js.SCHEDULES[asked.schedule.kind](asked.schedule);

const answers = {
  snr: () => asked.times.map(t => figures.snr(schedule(), t)),
  table: () => Object.values(figures.NOISES).map(how =>
    asked.sizes.map(S => asked.widths.map(std => figures.endsAt(schedule(), std, S, how)))),
  eps: () => asked.times.map(t => asked.xs.map(x => figures.mixtureEps(x, t, schedule()))),
  paths: () => figures.paths(schedule(), asked.starts, asked.S, asked.eta, i => asked.z[i]),
};
process.stdout.write(JSON.stringify(answers[asked.what]()));

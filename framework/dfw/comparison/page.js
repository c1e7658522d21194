"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const one = (selector) => document.querySelector(selector);
const root = document.documentElement;
const tiles = all(".tile");
const last = Number(root.style.getPropertyValue("--last"));

// One clock turns everything: the frame is a property of the whole page, and each strip shows that frame.
const play = one("#play");
const angle = one("#frame");
const SECONDS = 4; // of a turn, as the turntables themselves
let turning = play !== null && !matchMedia("(prefers-reduced-motion: reduce)").matches;
let begun = performance.now();
const show = (frame) => {
  root.style.setProperty("--frame", frame);
  angle.value = frame;
};
const tick = (now) => {
  if (!turning) return;
  const frame = Math.floor((((now - begun) / 1000 / SECONDS) % 1) * (last + 1));
  if (frame >= 0 && frame !== Number(angle.value)) show(frame);
  requestAnimationFrame(tick);
};
const turn = (wanted) => {
  turning = wanted;
  play.setAttribute("aria-pressed", String(turning));
  play.textContent = turning ? "Turning" : "Turn";
  if (turning) {
    begun = performance.now() - (Number(angle.value) / (last + 1)) * SECONDS * 1000;
    requestAnimationFrame(tick);
  }
};
if (play) {
  play.addEventListener("click", () => turn(!turning));
  angle.addEventListener("input", () => {
    turn(false);
    show(Number(angle.value));
  });
  turn(turning);
}
one("#size").addEventListener("input", (event) => root.style.setProperty("--size", `${event.target.value}px`));

// The filter. Nothing ticked means everything.
const ticked = (name) => all(`input[name="${name}"]:checked`).map((box) => box.value);
const filter = () => {
  const words = one("#words").value.trim().toLowerCase();
  const wanted = Object.fromEntries(["method", "seed", "status", "tag"].map((name) => [name, ticked(name)]));
  const fits = (tile) =>
    tile.dataset.words.includes(words) &&
    ["method", "seed", "status"].every((name) => !wanted[name].length || wanted[name].includes(tile.dataset[name])) &&
    wanted.tag.every((tag) => tile.dataset.tag.split(" ").includes(tag));
  for (const tile of tiles) tile.hidden = !fits(tile);
  for (const cell of all("[data-method]:not(.tile)")) {
    cell.hidden = wanted.method.length > 0 && !wanted.method.includes(cell.dataset.method);
  }
  for (const row of all(".runs tbody tr")) row.hidden = !row.querySelector(".tile:not([hidden])");
  const shown = tiles.filter((tile) => !tile.hidden).length;
  one("#count").textContent = shown === tiles.length ? "" : `${shown} of ${tiles.length} runs`;
  draw();
};
one(".controls").addEventListener("input", (event) => {
  if (event.target.matches("#words, [type=checkbox]")) filter();
});

// One run: what is known of it, and its report, which holds the viewer.
const detail = one("#detail");
let open = null;
const visible = () => tiles.filter((tile) => !tile.hidden);
const look = (tile) => {
  open = tile;
  one("#said").replaceChildren(tile.querySelector("template").content.cloneNode(true));
  const report = tile.dataset.report;
  const view = one("#view");
  view.hidden = one("#whole").hidden = !report;
  if (report) {
    view.src = `${report}#result`; // not the viewer itself, which would take the focus, and Esc would not close the dialog
    one("#whole").href = report;
  } else view.removeAttribute("src");
  if (!detail.open) detail.showModal();
};
const move = (by) => {
  const shown = visible();
  look(shown[(shown.indexOf(open) + by + shown.length) % shown.length]);
};
for (const tile of tiles) tile.addEventListener("click", () => look(tile));
one("#before").addEventListener("click", () => move(-1));
one("#after").addEventListener("click", () => move(1));
one("#close").addEventListener("click", () => detail.close());
detail.addEventListener("click", (event) => {
  if (event.target === detail) detail.close();
});
detail.addEventListener("close", () => {
  one("#view").removeAttribute("src");
  if (open) open.focus();
});

// Keys: arrows go from run to run, also while one is open; a space turns and stops.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, select")) return;
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && detail.open) move(by);
  else if (by && event.target.matches(".tile")) {
    const shown = visible();
    const next = shown[shown.indexOf(event.target) + by];
    if (next) next.focus();
  } else if (event.key === " " && play && event.target === document.body) turn(!turning);
  else return;
  event.preventDefault();
});

// The curves of the runs that are shown.
const data = JSON.parse(one("#data").textContent);
const plot = one("#plot");
const SVG = "http://www.w3.org/2000/svg";
const [LEFT, RIGHT, TOP, BOTTOM, WIDTH, HEIGHT] = [70, 10, 10, 36, 900, 340];
const colour = (method) => (method < 6 ? `var(--p${method})` : `hsl(${(method * 137) % 360} 55% 52%)`);
const made = (name, values, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return plot.appendChild(element);
};
const smoothed = (values, reach) =>
  values.map((value, place) => {
    if (value === null || !reach) return value;
    const side = Math.min(reach, place, values.length - 1 - place);
    const near = values.slice(place - side, place + side + 1).filter((near) => near !== null);
    return near.reduce((sum, value) => sum + value, 0) / near.length;
  });
const written = (value) => String(Number(value.toPrecision(4)));
let lines = [];
function draw() {
  if (!data.runs.length) return;
  const which = one("#quantity").value;
  const scale = one("#logarithmic").checked ? (value) => (value > 0 ? Math.log10(value) : null) : (value) => value;
  const back = one("#logarithmic").checked ? (value) => 10 ** value : (value) => value;
  const shown = new Set(visible().map((tile) => Number(tile.dataset.run)));
  lines = [];
  for (const run of data.runs) {
    const line = run.lines[which];
    if (!line || !shown.has(run.run)) continue;
    const [first, end, values] = line;
    const wide = (end - first) / values.length;
    const points = smoothed(values, Number(one("#smooth").value))
      .map((value, place) => [first + (place + 0.5) * wide, value === null ? null : scale(value)]);
    lines.push({ run, points });
  }
  plot.replaceChildren();
  const values = lines.flatMap((line) => line.points.map(([, value]) => value)).filter((value) => value !== null);
  if (!values.length) return;
  let [low, high] = values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  const end = Math.max(...lines.map(({ run }) => run.lines[which][1]), 1);
  const x = (step) => LEFT + (step / end) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  for (let tick = 0; tick <= 4; tick += 1) {
    const value = low + ((high - low) * tick) / 4;
    made("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) });
    made("text", { class: "tick", x: LEFT - 6, y: y(value) + 3.5, "text-anchor": "end" }, written(back(value)));
    const step = Math.round((end * tick) / 4);
    made("text", { class: "tick", x: x(step), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, step);
  }
  made("text", { class: "axis", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "step");
  for (const line of lines) {
    let pen = "M";
    const path = line.points.map(([step, value]) => {
      if (value === null) {
        pen = "M";
        return "";
      }
      const word = `${pen}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
      return word;
    });
    line.path = made("path", { d: path.join(""), style: `stroke: ${colour(line.run.method)}` });
    line.at = line.points.map(([step, value]) => [x(step), value === null ? Infinity : y(value), step, value]);
  }
  plot.back = back;
}
plot.addEventListener("pointermove", (event) => {
  const box = plot.getBoundingClientRect();
  const [px, py] = [((event.clientX - box.left) / box.width) * WIDTH, ((event.clientY - box.top) / box.height) * HEIGHT];
  let near = null;
  for (const line of lines) {
    for (const [x, y, step, value] of line.at) {
      const far = Math.hypot(x - px, y - py);
      if (far < 24 && (!near || far < near.far)) near = { far, line, step, value };
    }
  }
  for (const line of lines) line.path.classList.toggle("near", line === near?.line);
  one("#pointed").textContent = near
    ? `${near.line.run.label}: ${written(plot.back(near.value))} at step ${Math.round(near.step)}`
    : "";
});
if (data.runs.length) {
  one("#curves").hidden = false;
  data.names.forEach((name, place) => one("#quantity").append(new Option(name, place)));
  for (const selector of ["#quantity", "#smooth", "#logarithmic"]) one(selector).addEventListener("input", draw);
  data.methods.forEach((name, place) => {
    const item = document.createElement("li");
    const dot = document.createElement("span");
    dot.className = "dot";
    dot.style.background = colour(place);
    item.append(dot, name);
    one("#legend").append(item);
  });
}
filter();

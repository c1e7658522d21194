"use strict";
// The page of a run that goes on loads itself again: what is unfolded stays so, and the reader stays where he is. It stops when it
// has not been written for much longer than usual, since a run that was killed writes none that would stop it.
const place = `dfw ${location.pathname}`;
const folds = () => [...document.querySelectorAll("details")].map((one) => [one.querySelector("summary").textContent, one]);
const { renew, patience } = document.documentElement.dataset;
const written = document.querySelector("time");
const renews = renew && Date.now() - Date.parse(written.dateTime) < 1000 * patience;
if (renews) setTimeout(() => location.reload(), 1000 * renew);
else if (renew) document.querySelector("#silent").removeAttribute("hidden");
try {
  const kept = JSON.parse(sessionStorage.getItem(place));
  sessionStorage.removeItem(place);
  if (kept) {
    for (const [name, one] of folds()) one.open = kept.open.includes(name);
    history.scrollRestoration = "manual";
    addEventListener("load", () => scrollTo(0, kept.top));
  }
  if (renews) {
    addEventListener("pagehide", () => {
      const open = folds().filter(([, one]) => one.open).map(([name]) => name);
      sessionStorage.setItem(place, JSON.stringify({ top: scrollY, open }));
    });
  }
} catch {
  // Some browsers keep nothing for files.
}
const viewer = document.querySelector("#viewer");
if (viewer) {
  viewer.addEventListener("error", () => {
    document.querySelector("#viewer-note").textContent =
      "This browser cannot show 3D here (WebGL is missing or switched off). The files below hold the object.";
  });
}
// On paper the viewer is a still, and everything that is folded is open: a canvas keeps the width of the screen.
const still = new Image();
let opened = [];
addEventListener("beforeprint", () => {
  if (viewer && viewer.loaded) {
    still.src = viewer.toDataURL();
    still.alt = viewer.getAttribute("alt");
    viewer.before(still);
    viewer.setAttribute("hidden", "");
  }
  opened = [...document.querySelectorAll("details:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => {
  still.remove();
  if (viewer) viewer.removeAttribute("hidden");
  for (const one of opened) one.open = false;
});
// The read-out of the curves: the point nearest to the pointer, or the next one by arrow key.
for (const svg of document.querySelectorAll("svg[data-points]")) {
  const points = JSON.parse(svg.dataset.points);
  const output = svg.closest("figure").querySelector("output");
  const [line, dot] = svg.querySelectorAll(".cursor");
  const resting = output.textContent;
  let index = points.length - 1;
  const show = () => {
    const [x, y, step, value] = points[index];
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    line.removeAttribute("hidden");
    dot.removeAttribute("hidden");
    output.textContent = `step ${step}: ${value}`;
  };
  const hide = () => {
    line.setAttribute("hidden", "");
    dot.setAttribute("hidden", "");
    output.textContent = resting;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let best = 0;
    for (let i = 1; i < points.length; i += 1) {
      if (Math.abs(points[i][0] - x) < Math.abs(points[best][0] - x)) best = i;
    }
    index = best;
    show();
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("focus", show);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    index = Math.min(points.length - 1, Math.max(0, index + move));
    show();
  });
}

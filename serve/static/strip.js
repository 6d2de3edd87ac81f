// The strip under a series: the probability along the body, and a slider through its slices.

import { svg, setText } from "./dom.js";
import { mm, onCurve } from "./series.js";

const WIDTH = 1000;
const HEIGHT = 100;
const KEYS = {
  ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, PageUp: -10, PageDown: 10,
};

/** Return where each slice stands on the strip, 0 to 1: by its position, or by its number. */
export function places(slices) {
  const positions = slices.map(({ row }) => row.position_mm);
  const [first, last] = [positions[0], positions.at(-1)];
  const known = positions.every((p) => typeof p === "number") && first !== last;
  if (!known) return slices.map((_, i) => (slices.length > 1 ? i / (slices.length - 1) : 0.5));
  return positions.map((p) => (first - p) / (first - last));
}

export class Strip {
  /** `root` is the strip's element; `onIndex(index)` is called with the slice that is wanted. */
  constructor(root, model, onIndex) {
    this.root = root;
    this.model = model;
    this.onIndex = onIndex;
    this.track = root.querySelector(".track-z");
    this.picture = root.querySelector("svg");
    this.picture.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.index = 0;
    this.at = [];
    this.track.addEventListener("keydown", (event) => this.press(event));
    this.track.addEventListener("pointerdown", (event) => {
      this.track.setPointerCapture(event.pointerId);
      this.pick(event);
    });
    this.track.addEventListener("pointermove", (event) => {
      if (this.track.hasPointerCapture(event.pointerId)) this.pick(event);
    });
  }

  /** Draw the curve of slices in order, with the key slice marked. */
  draw(slices, key) {
    this.slices = slices;
    this.keyIndex = slices.indexOf(key);
    this.at = places(slices);
    const points = slices
      .map((scan, i) => [this.at[i] * WIDTH, onCurve(scan, this.model), scan.row.out_of_domain])
      .filter(([, p]) => p !== null)
      .map(([x, p, odd]) => [x, HEIGHT * (1 - p), odd]);
    this.picture.replaceChildren(...this.shapes(points));
    const mark = this.root.querySelector(".key-mark");
    mark.hidden = this.keyIndex < 0;
    if (this.keyIndex >= 0) mark.style.left = `${100 * this.at[this.keyIndex]}%`;
    this.track.setAttribute("aria-valuemin", 1);
    this.track.setAttribute("aria-valuemax", Math.max(1, slices.length));
    const ends = slices.length ? [slices[0], slices.at(-1)].map(({ row }) => row.position_mm) : [];
    const words = ends.map((p) => (typeof p === "number" ? `z ${mm(p)}` : ""));
    setText(this.root.querySelector(".z-first"), words[0] ?? "");
    setText(this.root.querySelector(".z-last"), words[1] ?? "");
  }

  shapes(points) {
    const line = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
    const made = [];
    if (points.length > 1) {
      const area = `${line}L${points.at(-1)[0]} ${HEIGHT}L${points[0][0]} ${HEIGHT}Z`;
      made.push(svg("path", { d: area, class: "area" }), svg("path", { d: line, class: "curve" }));
    }
    for (const [x, y, odd] of points) {
      const d = odd ? `M${x} ${HEIGHT}v-8` : `M${x} ${y}h0`;
      made.push(svg("path", { d, class: odd ? "odd" : "dot" }));
    }
    const limit = this.model?.threshold;
    if (typeof limit === "number") {
      const d = `M0 ${HEIGHT * (1 - limit)}H${WIDTH}`;
      made.push(svg("path", { d, class: "limit" }));
    }
    this.now = svg("path", { class: "now" });
    made.push(this.now);
    this.mark();
    return made;
  }

  /** Show which slice is in view, in words for a screen reader. */
  set(index, words) {
    this.index = index;
    this.track.setAttribute("aria-valuenow", index + 1);
    this.track.setAttribute("aria-valuetext", words);
    this.mark();
  }

  mark() {
    if (this.at.length) this.now?.setAttribute("d", `M${this.at[this.index] * WIDTH} 0V${HEIGHT}`);
  }

  pick({ clientX }) {
    const box = this.track.getBoundingClientRect();
    const wanted = (clientX - box.left) / box.width;
    let best = 0;
    this.at.forEach((place, i) => {
      if (Math.abs(place - wanted) < Math.abs(this.at[best] - wanted)) best = i;
    });
    this.onIndex(best);
  }

  press(event) {
    const ends = { Home: 0, End: this.at.length - 1 };
    if (this.keyIndex >= 0) ends.k = this.keyIndex;
    let wanted = ends[event.key];
    if (event.key in KEYS) wanted = this.index + KEYS[event.key];
    if (wanted === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    this.onIndex(Math.min(this.at.length - 1, Math.max(0, wanted)));
  }
}

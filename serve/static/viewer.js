// One slice, large: window, zoom, pan, heat map, distances.

import { inWords } from "./answer.js";
import { fromTemplate, newId, setText } from "./dom.js";
import { pointers } from "./gestures.js";
import { heatmapOf } from "./heatmaps.js";
import { Ruler } from "./measure.js";
import { pixelsOf } from "./pixels.js";
import { aspect, draw, WINDOWS } from "./windowing.js";

const MOST_ZOOM = 12;
const PAN_PX = 40; // a press of an arrow key

/** What every viewer of the page shows alike, as it was last set in one of them. */
const shared = { window: "lung", heat: false, opacity: 0.6 };

export class Viewer {
  /**
   * `place` receives the viewer. `onStep(by)` moves to another slice; without it the wheel zooms
   * and the arrows pan. `explains` says whether the model makes heat maps.
   */
  constructor(place, { onStep = null, explains = false, name = "Slice" }) {
    this.root = fromTemplate("viewer");
    place.append(this.root);
    this.part = (selector) => this.root.querySelector(selector);
    this.stage = this.part(".stage");
    this.stage.setAttribute("aria-label", name);
    this.onStep = onStep;
    this.scan = null;
    this.pixels = null;
    this.ruler = new Ruler(this.part(".marks"), (text) => setText(this.part(".length"), text));
    this.nameControls();
    this.part(".heat-tools").hidden = !explains;
    this.setFit();
    this.listen();
    new ResizeObserver(() => this.layout()).observe(this.stage);
  }

  // Ids tie labels to controls, and a page has several viewers.
  nameControls() {
    for (const [control, label] of [[".window", ".window-label"], [".opacity", ".opacity-label"]]) {
      this.part(control).id = newId("control");
      this.part(label).htmlFor = this.part(control).id;
    }
    for (const [value, { words }] of Object.entries(WINDOWS)) {
      this.part(".window").append(new Option(words, value));
    }
  }

  listen() {
    const on = (selector, type, act) => this.part(selector).addEventListener(type, act);
    on(".window", "change", ({ target }) => this.setWindow(target.value));
    on(".zoom-in", "click", () => this.zoomBy(1.5));
    on(".zoom-out", "click", () => this.zoomBy(1 / 1.5));
    on(".fit", "click", () => this.setFit());
    on(".measure", "click", () => this.setMeasuring(!this.ruler.active));
    on(".heat", "click", () => this.setHeat(!shared.heat));
    on(".opacity", "input", ({ target }) => this.setOpacity(target.value / 100));
    this.stage.addEventListener("keydown", (event) => this.key(event));
    pointers(this.stage, this);
  }

  /** Show a scan; of several that are asked for quickly, the last one. */
  async show(scan, caption) {
    this.scan = scan;
    setText(this.part(".caption"), caption);
    let pixels;
    try {
      pixels = await pixelsOf(scan);
    } catch (error) {
      if (this.scan === scan) this.fail(error.message);
      return;
    }
    if (this.scan !== scan) return;
    this.pixels = pixels;
    this.part(".problem").hidden = true;
    this.part(".window-tools").hidden = pixels.unit !== "HU";
    this.ruler.setPixels(pixels);
    this.redraw();
    this.layout();
  }

  fail(message) {
    this.pixels = null;
    this.part(".sheet").hidden = true;
    this.part(".problem").hidden = false;
    setText(this.part(".problem"), `No picture: ${message}`);
  }

  redraw() {
    if (!this.pixels) return;
    this.part(".sheet").hidden = false;
    this.part(".window").value = shared.window;
    draw(this.part(".grey"), this.pixels, shared.window);
    this.redrawHeat();
  }

  async redrawHeat() {
    const { heat, opacity } = shared;
    const overlay = this.part(".glow");
    this.part(".heat").setAttribute("aria-pressed", heat);
    this.part(".heat-on").hidden = !heat;
    this.part(".opacity").value = Math.round(100 * opacity);
    overlay.style.opacity = opacity;
    overlay.hidden = true;
    const scan = this.scan;
    const label = scan?.row?.label;
    setText(this.part(".legend-label"), label ? `Speaks for ${inWords(label)}: none` : "Not scored: none");
    if (!heat || !label) return;
    const image = await heatmapOf(scan).catch(() => null);
    if (this.scan !== scan || !shared.heat || !image) return;
    Object.assign(overlay, { width: image.naturalWidth, height: image.naturalHeight });
    overlay.getContext("2d").drawImage(image, 0, 0);
    overlay.hidden = false;
  }

  setWindow(name) {
    shared.window = name;
    for (const viewer of living()) viewer.redraw();
  }

  setHeat(on) {
    if (this.part(".heat-tools").hidden) return;
    shared.heat = on;
    for (const viewer of living()) viewer.redrawHeat();
  }

  setOpacity(share) {
    shared.opacity = share;
    for (const viewer of living()) viewer.part(".glow").style.opacity = share;
  }

  setMeasuring(on) {
    this.ruler.active = on;
    this.ruler.clear();
    this.part(".measure").setAttribute("aria-pressed", on);
    this.stage.classList.toggle("measuring", on);
    setText(this.part(".length"), on ? "Drag, or set two points" : "");
  }

  setFit() {
    Object.assign(this, { zoom: 1, x: 0, y: 0 });
    this.layout();
  }

  /** Zoom, keeping a place of the stage (CSS pixels from its middle) where it is. */
  zoomBy(factor, { x, y } = { x: 0, y: 0 }) {
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * factor));
    const by = zoom / this.zoom;
    Object.assign(this, { zoom, x: x - (x - this.x) * by, y: y - (y - this.y) * by });
    this.layout();
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.layout();
  }

  layout() {
    if (!this.pixels) return;
    const { clientWidth: across, clientHeight: down } = this.stage;
    const ratio = aspect(this.pixels);
    const width = Math.min(across, down * ratio) * this.zoom;
    const height = width / ratio;
    const [mostX, mostY] = [Math.max(0, width - across) / 2, Math.max(0, height - down) / 2];
    this.x = Math.min(mostX, Math.max(-mostX, this.x));
    this.y = Math.min(mostY, Math.max(-mostY, this.y));
    const { style } = this.part(".sheet");
    style.aspectRatio = ratio; // for print, which lays out anew
    style.width = `${width}px`;
    style.height = `${height}px`;
    style.left = `${(across - width) / 2 + this.x}px`;
    style.top = `${(down - height) / 2 + this.y}px`;
    this.stage.classList.toggle("zoomed", this.zoom > 1);
  }

  /** Return the place in the picture, in pixels, that a pointer is at. */
  placeOf({ clientX, clientY }) {
    const box = this.part(".sheet").getBoundingClientRect();
    const { width, height } = this.pixels ?? { width: 0, height: 0 };
    return {
      x: ((clientX - box.left) / box.width) * width,
      y: ((clientY - box.top) / box.height) * height,
    };
  }

  /** Say the value under a pointer. */
  point(event) {
    const { x, y } = this.placeOf(event);
    const { pixels } = this;
    const within = pixels && x >= 0 && y >= 0 && x < pixels.width && y < pixels.height;
    const value = within ? pixels.values[Math.floor(y) * pixels.width + Math.floor(x)] : null;
    setText(this.part(".value"), value === null ? "" : `${value} ${pixels.unit === "HU" ? "HU" : "of 255"}`);
  }

  key(event) {
    const { key } = event;
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const acts = {
      "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
      0: () => this.setFit(), h: () => this.setHeat(!shared.heat),
      m: () => this.setMeasuring(!this.ruler.active),
      1: () => this.setWindow("lung"), 2: () => this.setWindow("soft"), 3: () => this.setWindow("bone"),
    };
    if (this.ruler.active && this.ruler.key(event)) event.preventDefault();
    else if (key in acts) {
      acts[key]();
      event.preventDefault();
    } else this.moveByKey(event);
  }

  moveByKey(event) {
    const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const pan = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [1, 0], ArrowRight: [-1, 0] };
    if (event.key in pan && (event.shiftKey || !this.onStep)) {
      this.pan(...pan[event.key].map((by) => by * PAN_PX));
    } else if (event.key in step && this.onStep) this.onStep(step[event.key]);
    else return;
    event.preventDefault();
  }
}

// Viewers that are on the page; a closed dialogue takes its own along.
const made = new Set();

function living() {
  for (const viewer of made) if (!viewer.root.isConnected) made.delete(viewer);
  return made;
}

/** Return a new viewer, kept in step with the others' window, heat map and opacity. */
export function newViewer(place, options) {
  const viewer = new Viewer(place, options);
  made.add(viewer);
  return viewer;
}

/** Return the window that was last chosen. */
export function currentWindow() {
  return shared.window;
}

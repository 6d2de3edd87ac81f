// Distances on a slice, in mm, from the spacing of the pixels that the server sent.

import { svg } from "./dom.js";

/**
 * Return how far two places lie apart, in words.
 *
 * @param a, b places {x, y} in pixels
 * @param spacing mm between rows and between columns, or null where the file has none
 */
export function distance(a, b, spacing) {
  const [row, column] = spacing ?? [1, 1];
  const length = Math.hypot((b.x - a.x) * column, (b.y - a.y) * row);
  return spacing ? `${length.toFixed(1)} mm` : `${length.toFixed(0)} pixels (the file has no spacing)`;
}

/** A line between two places of a picture; made by drag, by two clicks, or with the keyboard. */
export class Ruler {
  /** `layer` is an SVG over the picture, `say` is called with the distance in words. */
  constructor(layer, say) {
    this.layer = layer;
    this.say = say;
    this.pixels = null;
    this.active = false;
    this.clear();
  }

  clear() {
    this.from = null;
    this.to = null;
    this.cursor = null; // of the keyboard
    this.fixed = false; // whether both ends are chosen
    this.layer.replaceChildren();
  }

  /** Use other pixels: a line belongs to the slice it was drawn on. */
  setPixels(pixels) {
    this.pixels = pixels;
    this.layer.setAttribute("viewBox", `0 0 ${pixels.width} ${pixels.height}`);
    if (this.from || this.cursor) this.say("");
    this.clear();
  }

  down(place) {
    if (this.from && !this.fixed) return this.end(place);
    this.from = place;
    this.to = place;
    this.fixed = false;
    this.draw();
  }

  move(place) {
    if (!this.from || this.fixed) return;
    this.to = place;
    this.draw();
  }

  /** End a drag; a click that did not move only sets the first end. */
  up(place) {
    if (this.from && !this.fixed && Math.hypot(place.x - this.from.x, place.y - this.from.y) > 2) {
      this.end(place);
    }
  }

  end(place) {
    this.to = place;
    this.fixed = true;
    this.draw();
  }

  /** Move the keyboard's crosshair with the arrows; Enter sets an end. Returns whether it did. */
  key({ key, shiftKey }) {
    const by = shiftKey ? 10 : 1;
    const steps = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
    const { width, height } = this.pixels ?? {};
    if (!width || !(key in steps || key === "Enter" || key === " ")) return false;
    this.cursor ??= { x: Math.round(width / 2), y: Math.round(height / 2) };
    if (key in steps) {
      const [x, y] = steps[key];
      this.cursor = {
        x: Math.min(width, Math.max(0, this.cursor.x + x)),
        y: Math.min(height, Math.max(0, this.cursor.y + y)),
      };
      this.move({ ...this.cursor });
    } else this.down({ ...this.cursor });
    this.draw();
    return true;
  }

  draw() {
    this.layer.replaceChildren();
    if (this.cursor) this.cross(this.cursor, "cursor");
    if (!this.from) return;
    const { from, to } = this;
    this.layer.append(svg("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y, class: "ruler" }));
    for (const place of [from, to]) this.cross(place, "ruler");
    this.say(distance(from, to, this.pixels.spacing));
  }

  cross({ x, y }, name) {
    const arm = this.pixels.width / 64;
    const d = `M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}`;
    this.layer.append(svg("path", { d, class: name }));
  }
}

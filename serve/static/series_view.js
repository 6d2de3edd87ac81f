// A series to look through: the picture of one slice, and the strip under it.

import { fromTemplate } from "./dom.js";
import { pixelsOf } from "./pixels.js";
import { caption } from "./series.js";
import { Strip } from "./strip.js";
import { newViewer } from "./viewer.js";

const AHEAD = 2; // slices fetched on each side of the one in view

export class SeriesView {
  /** Put a view of `series` into `place`; `onMove(view)` is called when another slice is shown. */
  constructor(place, series, model, onMove = () => {}) {
    this.series = series;
    this.model = model;
    this.onMove = onMove;
    this.slices = [];
    this.index = 0;
    this.moved = false; // by a person; until then the key slice is shown
    this.viewer = newViewer(place, {
      name: `Slices of ${series.name}`,
      explains: "explain" in (model?.params ?? {}),
      onStep: (by) => this.go(this.index + by),
    });
    const strip = fromTemplate("strip");
    place.append(strip);
    this.strip = new Strip(strip, model, (index) => this.go(index));
    this.update();
  }

  /** Show what is new in the series. */
  update() {
    const inView = this.slices[this.index];
    this.slices = this.series.slices();
    const key = this.series.answer ? this.series.keySlice() : null;
    this.strip.draw(this.slices, key);
    if (!this.slices.length) return;
    const wanted = this.moved || !key ? (inView ?? this.series.keySlice()) : key;
    this.show(Math.max(0, this.slices.indexOf(wanted)));
  }

  /** Move to a slice, as a person does. */
  go(index) {
    const within = Math.min(this.slices.length - 1, Math.max(0, index));
    if (within === this.index || within < 0) return;
    this.moved = true;
    this.show(within);
    this.onMove(this);
  }

  show(index) {
    this.index = index;
    const key = this.series.answer ? this.series.keySlice() : null;
    const words = caption(this.series, this.slices, index, key, this.model);
    this.strip.set(index, words);
    this.viewer.show(this.slices[index], words).then(() => this.fetchAhead(index));
  }

  fetchAhead(index) {
    if (!this.moved || this.index !== index) return;
    for (let by = AHEAD; by >= 1; by -= 1) {
      for (const place of [index - by, index + by]) {
        if (this.slices[place]) pixelsOf(this.slices[place]).catch(() => {});
      }
    }
  }

  /** Go to the slice at the height of another view's, or as far along where heights differ. */
  follow(other) {
    const wanted = other.slices[other.index]?.row.position_mm;
    const heights = this.slices.map(({ row }) => row.position_mm);
    const [top, bottom] = [heights[0], heights.at(-1)];
    const share = other.slices.length > 1 ? other.index / (other.slices.length - 1) : 0;
    let best = Math.round(share * (this.slices.length - 1));
    if (typeof wanted === "number" && wanted <= top && wanted >= bottom) {
      best = heights.reduce((b, h, i) => (Math.abs(h - wanted) < Math.abs(heights[b] - wanted) ? i : b), 0);
    }
    if (best === this.index) return;
    this.moved = true;
    this.show(best);
  }
}

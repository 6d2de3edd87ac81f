// Probabilities as bars that a screen reader can read.

import { classesOf, diseaseProbability, inWords, isHealthy, leastShare, percent } from "./answer.js";
import { element } from "./dom.js";

/** Return one bar: a name, a percentage, a meter, and the mark of a threshold unless it is null. */
export function bar(name, p, { chosen = false, threshold = null, least = 0.01 } = {}) {
  const made = element("div", undefined, chosen ? "bar chosen" : "bar");
  const meter = element("meter");
  Object.assign(meter, { min: 0, max: 1, value: p });
  meter.setAttribute("aria-label", name);
  const track = element("div", undefined, "track");
  track.append(meter);
  if (threshold !== null) {
    const line = element("i", undefined, "mark");
    line.style.left = `${100 * threshold}%`;
    line.title = `threshold ${(100 * threshold).toFixed(1)} %`;
    track.append(line);
  }
  const value = element("dd");
  value.append(element("span", percent(p, least)), track);
  made.append(element("dt", name), value);
  return made;
}

/** Return the bars of a slice: a class each, and any disease where several classes are diseases. */
export function slicesBars(row, kind, model) {
  const least = leastShare(model);
  const disease = diseaseProbability(row, model);
  const names = classesOf(row);
  const diseased = names.filter((name) => !isHealthy(name, model));
  const mark = disease !== null && typeof model?.threshold === "number" ? model.threshold : null;
  const bars = names.map((name) =>
    bar(inWords(name), row[`p_${name}`], {
      chosen: kind === "answered" && name === row.label,
      threshold: diseased.length === 1 && name === diseased[0] ? mark : null,
      least,
    }),
  );
  if (mark !== null && diseased.length > 1) {
    bars.push(bar("any disease", disease, { threshold: mark, least }));
  }
  return bars;
}

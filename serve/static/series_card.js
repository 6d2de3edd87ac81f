// What one series looks like on the page: its answer first, then its slices.

import { inWords, kindOfSeries, leastShareOfSeries, seriesThreshold, whySeries } from "./answer.js";
import { bar } from "./bars.js";
import { showWarning } from "./cards.js";
import { element, fromTemplate, setText } from "./dom.js";
import { factsOf, remarksOn } from "./series.js";
import { SeriesView } from "./series_view.js";

/** Return the card of a group of files that are being scored: no answer yet, and how far it is. */
export function newGroupCard(name) {
  const card = fromTemplate("group-card");
  setText(card.querySelector(".file"), name || "DICOM files");
  return card;
}

/** Show how many of a group's files have been tried. */
export function showGroup(card, done, total) {
  setText(card.querySelector(".verdict"), `Being scored: ${done} of ${total} files`);
  Object.assign(card.querySelector("progress"), { max: total, value: done });
}

export class SeriesCard {
  /**
   * @param series as of series.js
   * @param model the answer of GET /model
   * @param acts {enlarge(series), compare(series), report(series, view)}
   */
  constructor(series, model, acts) {
    this.series = series;
    this.model = model;
    this.root = fromTemplate("series-card");
    this.part = (selector) => this.root.querySelector(selector);
    setText(this.part(".file"), series.name);
    this.view = new SeriesView(this.part(".look"), series, model);
    const on = (selector, act) => this.part(selector).addEventListener("click", act);
    on(".to-key", () => this.toKeySlice());
    on(".enlarge-series", () => acts.enlarge(series));
    on(".compare", () => acts.compare(series));
    on(".report", () => acts.report(series));
    this.update();
  }

  toKeySlice() {
    this.view.go(this.view.slices.indexOf(this.series.keySlice()));
    this.view.strip.track.focus();
  }

  /** Show what is known of the series now. */
  update() {
    const { answer, problem } = this.series;
    this.view.update();
    this.part(".look").hidden = !this.view.slices.length;
    const kind = answer ? kindOfSeries(answer) : null;
    this.root.dataset.kind = kind ?? "";
    this.root.classList.toggle("failed", kind === "failed" || Boolean(problem));
    const done = Boolean(answer?.key_row);
    for (const name of [".to-key", ".report"]) this.part(name).disabled = !done;
    if (problem) setText(this.part(".verdict"), problem);
    else if (!answer) setText(this.part(".verdict"), `${this.series.scans.length} slices so far`);
    else showSeriesAnswer(this.root, answer, kind, this.model);
    const facts = factsOf(this.series).map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    });
    this.part(".counts").replaceChildren(...facts);
    this.part(".remarks").replaceChildren(...remarksOn(this.series).map((text) => element("li", text)));
  }

  /** Offer to compare where there is another series. */
  offerComparison(others) {
    this.part(".compare").hidden = others < 1;
  }
}

/** Show a series' answer, with what must not be relied on before any label. */
export function showSeriesAnswer(root, answer, kind, model) {
  const part = (selector) => root.querySelector(selector);
  part(".bars").replaceChildren();
  setText(part(".why"), "");
  showWarning(part(".warn"), kind);
  if (kind === "failed") {
    setText(part(".verdict"), answer.error || "This series has no answer.");
    return;
  }
  if (kind === "unanswered") {
    part(".verdict").replaceChildren(element("strong", "No answer for the series"));
    setText(part(".why"), answer.error ?? "");
    return;
  }
  const heads = { out_of_domain: "Out of domain", undecided: "Undecided" };
  const label = inWords(answer.label);
  const verdict = part(".verdict");
  if (kind in heads) {
    verdict.replaceChildren(element("strong", heads[kind]), ` nearest label: ${label}`);
  } else verdict.replaceChildren(element("strong", label));
  if (typeof answer.probability !== "number") return;
  setText(part(".why"), whySeries(answer, model));
  part(".bars").append(
    bar("any disease", answer.probability, {
      chosen: kind === "answered", threshold: seriesThreshold(model), least: leastShareOfSeries(model),
    }),
  );
}

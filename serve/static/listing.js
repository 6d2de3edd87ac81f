// Which cards are shown, and in which order.

import { diseaseProbability, inWords, kindOf, kindOfSeries } from "./answer.js";

const FILTERS = {
  unanswered: "No answer for the series", undecided: "Undecided", out_of_domain: "Out of domain", failed: "Without an answer", open: "Not scored yet",
};
// What a person has to look at comes first.
const ATTENTION = ["failed", "unanswered", "out_of_domain", "undecided", "answered", "skipped", "open"];

/** Return what a card is listed by: {kind, label, p, place, root}. */
export function entryOf(root, place, { scan = null, series = null }, model) {
  if (series) {
    const { answer } = series;
    const kind = answer || series.problem ? kindOfSeries(answer) : "open";
    return { root, place, kind, label: answer?.label ?? null, p: answer?.probability ?? null };
  }
  if (scan === null || (scan.state !== "done" && scan.state !== "failed")) {
    return { root, place, kind: "open", label: null, p: null };
  }
  const p = scan.row && !scan.row.error ? diseaseProbability(scan.row, model) ?? scan.row.probability : null;
  return { root, place, kind: kindOf(scan.row), label: scan.row?.label ?? null, p };
}

/** Return the filters that make sense for entries, as [value, words] with their counts. */
export function filtersFor(entries) {
  const count = (has) => entries.filter(has).length;
  const found = [["", `All (${entries.length})`]];
  const labels = new Set(entries.filter(({ kind }) => kind === "answered").map(({ label }) => label));
  for (const label of [...labels].sort()) {
    const n = count((entry) => entry.kind === "answered" && entry.label === label);
    found.push([`label:${label}`, `${inWords(label)} (${n})`]);
  }
  for (const [kind, words] of Object.entries(FILTERS)) {
    const n = count((entry) => entry.kind === kind);
    if (n) found.push([kind, `${words} (${n})`]);
  }
  return found;
}

/** Return whether an entry passes a filter. */
export function passes({ kind, label }, filter) {
  if (!filter) return true;
  if (filter.startsWith("label:")) return kind === "answered" && label === filter.slice(6);
  return kind === filter;
}

const byPlace = (a, b) => a.place - b.place;
const ORDERS = {
  given: byPlace,
  // What has no probability comes last in either direction.
  highest: (a, b) => (b.p ?? -1) - (a.p ?? -1) || byPlace(a, b),
  lowest: (a, b) => (a.p ?? 2) - (b.p ?? 2) || byPlace(a, b),
  state: (a, b) => ATTENTION.indexOf(a.kind) - ATTENTION.indexOf(b.kind) || byPlace(a, b),
};

/** Return entries in an order: given, highest, lowest or state. */
export function ordered(entries, order) {
  return [...entries].sort(ORDERS[order] ?? byPlace);
}

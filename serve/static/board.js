// The cards on the page: one for each loose scan, one for each series, one for each folder at work.

import { newCard, showOnCard } from "./cards.js";
import { $ } from "./dom.js";
import { folderOf, looksLikeDicom, unpacked } from "./intake.js";
import { forgetPixels } from "./pixels.js";
import { newGroupCard, SeriesCard, showGroup } from "./series_card.js";
import { Series } from "./series.js";
import { askPatiently, sentenceFrom } from "./server.js";

/** Return the folder of each DICOM source that shares it with another one. */
async function groupsOf(sources) {
  const folders = new Map();
  for (const source of sources) {
    if (!(await looksLikeDicom(source))) continue;
    const folder = folderOf(source.path);
    if (!folders.has(folder)) folders.set(folder, []);
    folders.get(folder).push(source);
  }
  const shared = [...folders].filter(([, members]) => members.length > 1);
  return new Map(shared.flatMap(([folder, members]) => members.map((source) => [source, folder])));
}

/** Ask the server for the answer that a series' rows give together. */
async function askForSeries(scans) {
  const rows = scans.map(({ row }, i) => ({ ...row, file: String(i) }));
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ rows });
  const response = await askPatiently("series", { method: "POST", body, headers });
  if (!response.ok) throw new Error(await sentenceFrom(response));
  return (await response.json()).series[0];
}

function notWhole(unsent) {
  const files = unsent === 1 ? "1 file of its folder was" : `${unsent} files of its folder were`;
  return `No answer yet: ${files} not scored. Try the failed ones again.`;
}

export class Board {
  /** `acts` are what cards can do: enlargeScan, enlarge, compare, report. */
  constructor(queue, acts) {
    this.queue = queue;
    this.acts = acts;
    this.reset();
  }

  reset() {
    this.items = []; // {root, scan | series | group} in order of arrival
    this.series = new Map(); // by what the rows call it
    this.leftOut = []; // {path, reason} of what was not sent
    this.changedSeries = new Set();
  }

  /** Put what a person gave into the queue; resolves to how many scans came in. */
  async add(given) {
    const { sources, leftOut } = await unpacked(given);
    this.leftOut.push(...leftOut);
    const groups = await groupsOf(sources);
    for (const file of sources) {
      const scan = { file, group: groups.get(file) ?? null, row: null, card: null };
      if (scan.group === null) this.addCard(scan);
      this.queue.add(scan);
    }
    return sources.length;
  }

  addCard(scan, before = null) {
    scan.card = newCard(scan, this.acts.enlargeScan);
    this.put({ root: scan.card, scan }, before);
  }

  put(item, before = null) {
    const place = before ? this.items.findIndex(({ root }) => root === before) : this.items.length;
    this.items.splice(place, 0, item);
    $("cards").insertBefore(item.root, before);
  }

  drop(root) {
    this.items = this.items.filter((item) => item.root !== root);
    root.remove();
  }

  /** Show that a scan has changed. */
  changed(scan) {
    if (scan.group !== null) this.changedInGroup(scan);
    else if (scan.state === "failed" && scan.file.inside && (scan.row || scan.unreadable)) {
      this.drop(scan.card); // what a folder holds besides scans is listed, not shown
      scan.card = null;
    } else showOnCard(scan, this.queue.model);
  }

  changedInGroup(scan) {
    const { root } = this.groupItem(scan.group);
    const members = this.queue.scans.filter(({ group }) => group === scan.group);
    const tried = members.filter(({ state }) => state === "done" || state === "failed");
    showGroup(root, tried.length, members.length);
    // A slice that failed still counts as one of its series, where its header names that.
    if (scan.row?.series && scan.state !== "sending") this.addToSeries(scan, root);
    else if (scan.state === "done") {
      this.addCard(scan, root);
      showOnCard(scan, this.queue.model);
    }
  }

  groupItem(group) {
    const found = this.items.find((item) => item.group === group);
    if (found) return found;
    const item = { root: newGroupCard(group), group };
    this.put(item);
    return item;
  }

  addToSeries(scan, before) {
    const uid = scan.row.series;
    if (!this.series.has(uid)) {
      const series = new Series(uid, this.nameFor(scan.group));
      series.card = new SeriesCard(series, this.queue.model, this.acts);
      this.series.set(uid, series);
      this.put({ root: series.card.root, series }, before);
      for (const { card } of this.series.values()) card.offerComparison(this.series.size - 1);
    }
    const series = this.series.get(uid);
    series.add(scan);
    if (!this.changedSeries.size) setTimeout(() => this.refresh()); // sixteen slices come at once
    this.changedSeries.add(series);
  }

  nameFor(group) {
    const folder = group.split("/").at(-1) || "Series";
    const taken = new Set([...this.series.values()].map(({ name }) => name));
    if (!taken.has(folder)) return folder;
    let number = 2;
    while (taken.has(`${folder} · ${number}`)) number += 1;
    return `${folder} · ${number}`;
  }

  refresh() {
    for (const series of this.changedSeries) series.card.update();
    this.changedSeries.clear();
  }

  /** Ask for the answers of the series of a group whose files have all been tried. */
  async finish(group) {
    const touched = [...this.series.values()].filter(({ scans }) => scans.some((s) => s.group === group));
    for (const series of touched) {
      if (series.scans.length === 1) this.dissolve(series);
      else await this.answer(series, group);
    }
    const item = this.items.find((other) => other.group === group);
    if (item) this.drop(item.root);
  }

  // One slice is a scan, not a series.
  dissolve(series) {
    const [scan] = series.scans;
    this.series.delete(series.uid);
    if (scan.state === "done") {
      this.addCard(scan, series.card.root);
      showOnCard(scan, this.queue.model);
    }
    this.drop(series.card.root);
    for (const { card } of this.series.values()) card.offerComparison(this.series.size - 1);
  }

  async answer(series, group) {
    const most = this.queue.model?.max_series_rows ?? Infinity;
    const whole = series.scans.length <= most;
    // Slices that were skipped change no answer: of a series over the limit they stay here.
    const sent = series.scans.filter(({ row }) => whole || !row.skipped);
    const lost = this.queue.scans.filter((scan) => scan.group === group && scan.state === "failed");
    const unsent = lost.filter(({ row }) => !row).length; // cancelled, or the server was gone
    series.beside = lost.filter(({ row }) => row && !row.series).length;
    series.problem = unsent ? notWhole(unsent) : "";
    try {
      if (unsent) return;
      const answer = await askForSeries(sent);
      const kept = series.scans.length - sent.length;
      series.take({ ...answer, slices: answer.slices + kept, skipped: answer.skipped + kept }, sent);
    } catch (error) {
      series.problem = `This series has no answer: ${error.message}`;
    } finally {
      series.card.update();
    }
  }

  /** Return {path, reason} of everything that has no card. */
  withoutCard() {
    const failed = this.queue.scans.filter(({ state, card }) => state === "failed" && !card);
    return [...this.leftOut, ...failed.map(({ file, message }) => ({ path: file.path, reason: message }))];
  }

  clear() {
    $("cards").replaceChildren();
    forgetPixels();
    this.reset();
    this.queue.clear();
  }
}

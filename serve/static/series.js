// One series: its slices in order along the body, its answer, and what has to be said with it.

import { counted, diseaseProbability, inWords, kindOf, leastShare, percent } from "./answer.js";

/** Return a position along the body in words. */
export function mm(position) {
  return `${position < 0 ? "−" : ""}${Math.abs(position).toFixed(1)} mm`;
}

export class Series {
  /** `uid` is what the rows call it, `name` what people do: the folder it came from. */
  constructor(uid, name) {
    this.uid = uid;
    this.name = name;
    this.scans = []; // with a row that names this series
    this.answer = null; // an entry of `series` in the server's answer, with `key_row`
    this.beside = 0; // files of the same folder that have no answer and name no series
    this.problem = ""; // why there is no answer, where the server could not be asked
  }

  add(scan) {
    if (!this.scans.includes(scan)) this.scans.push(scan);
  }

  /** Return the slices that can be looked at, from the head down; without a place, by name. */
  slices() {
    const shown = this.scans.filter(({ row }) => row && !row.error);
    const place = ({ row }) => row.position_mm ?? null;
    return shown.sort((a, b) => {
      const [first, second] = [place(a), place(b)];
      if (first === null || second === null) return (first === null) - (second === null);
      return second - first;
    });
  }

  /**
   * Return the number of a slice as [number, total], from the head down: as viewers and the batch
   * job's `slice_index` (which begins at 0) count, slices that failed included. Null without a place.
   */
  numberOf(scan) {
    const placed = this.scans.filter(({ row }) => typeof row?.position_mm === "number");
    placed.sort((a, b) => b.row.position_mm - a.row.position_mm);
    const place = placed.indexOf(scan);
    return place < 0 ? null : [place + 1, placed.length];
  }

  /** Return the slice that speaks most for the answer; until there is one, the middle slice. */
  keySlice() {
    const slices = this.slices();
    const key = this.answer && slices.find(({ row }) => row === this.answer.key_row);
    return key ?? slices[Math.floor(slices.length / 2)] ?? null;
  }

  /** Take the server's answer; its key slice is named by a place in `sent`, the scans it is for. */
  take(answer, sent) {
    const named = answer.key_slice === null || answer.key_slice === undefined;
    this.answer = { ...answer, key_row: named ? null : (sent[Number(answer.key_slice)]?.row ?? null) };
  }
}

/** Return the probability that a slice adds to the curve, or null where it was not scored. */
export function onCurve({ row }, model) {
  if (kindOf(row) === "failed" || kindOf(row) === "skipped") return null;
  return diseaseProbability(row, model) ?? row.probability;
}

/** Return what is said of the slice in view. */
export function caption(series, slices, index, key, model) {
  const { row } = slices[index];
  const [number, total] = series.numberOf(slices[index]) ?? [index + 1, slices.length];
  const parts = [`Slice ${number} of ${total}`];
  if (typeof row.position_mm === "number") parts.push(`z ${mm(row.position_mm)}`);
  const p = onCurve(slices[index], model);
  if (p === null) parts.push("not scored: a neighbour was");
  else parts.push(`disease ${percent(p, leastShare(model))}`);
  if (row.out_of_domain) parts.push("out of domain");
  else if (row.undecided) parts.push("undecided");
  if (slices[index] === key) parts.push("key slice");
  return parts.join(" · ");
}

/** Return what was done with a series' slices, as pairs of words. */
export function factsOf({ answer }) {
  if (!answer) return [];
  const facts = [["Slices", `${answer.slices}: ${answer.scored} scored`]];
  if (answer.skipped) facts[0][1] += `, ${answer.skipped} skipped, as a neighbour was scored`;
  if (answer.failed) facts[0][1] += `, ${answer.failed} without an answer`;
  if (typeof answer.first_mm === "number") {
    facts.push(["Along the body", `${mm(answer.first_mm)} to ${mm(answer.last_mm)}`]);
  }
  if (typeof answer.key_position_mm === "number") {
    const label = answer.key_row?.label ? `, ${inWords(answer.key_row.label)}` : "";
    facts.push(["Key slice", `at z ${mm(answer.key_position_mm)}${label}`]);
  }
  if (typeof answer.out_of_domain_share === "number") {
    const share = Math.round(100 * answer.out_of_domain_share);
    facts.push(["Out of domain", `${share} % of the scored slices`]);
  }
  return facts;
}

/** Return sentences on what is not as it should be in a series. */
export function remarksOn({ answer, beside }) {
  if (!answer) return [];
  const remarks = answer.note ? [answer.note] : [];
  if (beside) {
    remarks.push(`${counted(beside, "file")} of the same folder without an answer: see the list at the end.`);
  }
  if (answer.gaps && !answer.note) {
    const many = answer.gaps > 1;
    remarks.push(`The series has ${counted(answer.gaps, "hole")}: slices ${many ? "at several places" : "at one place"} are missing.`);
  }
  if (answer.duplicate_positions && !answer.note) {
    remarks.push(`${counted(answer.duplicate_positions, "slice")} at a position that another slice has too.`);
  }
  if (answer.scored === 1 && !answer.note) remarks.push("The answer rests on one slice.");
  return remarks;
}

// Sends scans a few at a time, in order, and tells how each one went.

import { askPatiently, sentenceFrom } from "./server.js";

const LOOSE_PER_REQUEST = 4; // pictures: the first answer is there at once
const SLICES_PER_REQUEST = 16; // of a series: as many as go through the network together
const FORM_OVERHEAD_BYTES = 4096; // multipart boundaries and names around one file
const GONE = "The server cannot be reached. Check the connection and try again.";
const UNREADABLE = "This file could not be read: it may have been moved or changed.";
const CANCELLED = "Cancelled.";

export class Queue {
  /**
   * A scan is {file, group, state, row, message}: `file` a source of intake.js, `group` the folder
   * whose DICOM slices are sent together, or null; `state` waiting, sending, done or failed.
   *
   * `onChange(scan)` is called when a scan changes, `onChange(null)` when the queue stops;
   * `onGroup(group)` is awaited when each scan of a group has been tried.
   */
  constructor({ onChange, onGroup }) {
    this.scans = [];
    this.model = null; // the answer of GET /model
    this.running = false;
    this.onChange = onChange;
    this.onGroup = onGroup;
  }

  count(state) {
    return this.scans.filter((scan) => scan.state === state).length;
  }

  get open() {
    return this.count("waiting") + this.count("sending");
  }

  add(scan) {
    this.scans.push(scan);
    const limit = this.model?.max_body_bytes ?? Infinity;
    if (scan.file.size + FORM_OVERHEAD_BYTES > limit) {
      const most = Math.floor(limit / 2 ** 20);
      this.set(scan, "failed", `This file is larger than the ${most} MB the server takes.`);
    } else {
      this.set(scan, "waiting");
    }
  }

  set(scan, state, message = "") {
    scan.state = state;
    scan.message = message;
    this.onChange(scan);
  }

  cancel() {
    this.abort?.abort(new Error(CANCELLED));
  }

  clear() {
    this.scans.length = 0;
    this.onChange(null);
  }

  /** Put scans that never reached an answer back in the queue. */
  async retry() {
    for (const scan of this.scans) {
      if (scan.state === "failed" && !scan.row) this.set(scan, "waiting");
    }
    await this.run();
  }

  async run() {
    if (this.running) return;
    this.running = true;
    this.abort = new AbortController();
    const { signal } = this.abort;
    try {
      for (let chunk = this.next(); chunk.length; chunk = this.next()) {
        const goOn = await this.send(chunk, signal);
        if (signal.aborted) this.failOpen(CANCELLED);
        else if (!goOn) this.failOpen(chunk.at(-1).message);
        await this.endOf(chunk[0].group);
      }
    } finally {
      this.running = false;
      this.onChange(null);
    }
  }

  async endOf(group) {
    const open = ({ state }) => state === "waiting" || state === "sending";
    if (group === null || this.scans.some((scan) => scan.group === group && open(scan))) return;
    await this.onGroup(group);
  }

  next() {
    const limit = this.model?.max_body_bytes ?? 32 * 2 ** 20;
    const first = this.scans.find((scan) => scan.state === "waiting");
    const wanted = first?.group == null ? LOOSE_PER_REQUEST : SLICES_PER_REQUEST;
    const most = Math.min(wanted, this.model?.max_rows ?? wanted);
    const chunk = [];
    let bytes = 0;
    for (const scan of this.scans) {
      if (scan.state !== "waiting" || scan.group !== first.group) continue;
      bytes += scan.file.size + FORM_OVERHEAD_BYTES;
      if (chunk.length === most || (chunk.length && bytes > limit)) break;
      chunk.push(scan);
    }
    return chunk;
  }

  failOpen(message) {
    for (const scan of this.scans) {
      if (scan.state === "waiting" || scan.state === "sending") this.set(scan, "failed", message);
    }
  }

  /** Send one request; resolves to whether it makes sense to send the next. */
  async send(chunk, signal) {
    for (const scan of chunk) this.set(scan, "sending");
    const readable = await this.read(chunk);
    if (!readable.length) return true;
    const scans = readable.map(([scan]) => scan);
    let response;
    try {
      response = await this.post(readable, signal);
      if (response.ok) return this.take(scans, (await response.json()).predictions);
    } catch {
      if (signal.aborted) return false;
      for (const scan of scans) this.set(scan, "failed", GONE);
      return false;
    }
    // One scan that the server refuses must not cost its neighbours their answer.
    const mayDiffer = response.status !== 401 && response.status !== 503;
    if (mayDiffer && scans.length > 1) return this.sendSingly(scans, signal);
    const message = await sentenceFrom(response);
    for (const scan of scans) this.set(scan, "failed", message);
    return mayDiffer;
  }

  // Return [scan, bytes] of those that can be read; the others have failed.
  async read(chunk) {
    const readable = [];
    for (const scan of chunk) {
      try {
        const blob = await scan.file.read();
        await blob.slice(0, 1).arrayBuffer();
        readable.push([scan, blob]);
      } catch (error) {
        scan.unreadable = true;
        this.set(scan, "failed", error instanceof DOMException ? UNREADABLE : error.message);
      }
    }
    return readable;
  }

  async sendSingly(chunk, signal) {
    for (const scan of chunk) {
      if (!(await this.send([scan], signal))) return false;
    }
    return true;
  }

  async post(readable, signal) {
    const body = new FormData();
    for (const [scan, blob] of readable) body.append("files", blob, scan.file.name);
    const known = this.model?.answers_series; // models of older layouts know no series
    const path = known ? `predict?series=${readable[0][0].group !== null}` : "predict";
    return askPatiently(path, { method: "POST", body, signal });
  }

  take(scans, rows) {
    rows.forEach((row, i) => {
      scans[i].row = row;
      this.set(scans[i], row.error ? "failed" : "done", row.error ?? "");
    });
    return true;
  }
}

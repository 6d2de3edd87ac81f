// Sends scans a few at a time, in order, and tells how each one went.

import { ask, sentenceFrom } from "./server.js";

const FILES_PER_REQUEST = 4;
const FORM_OVERHEAD_BYTES = 4096; // multipart boundaries and names around one file
const BUSY_TRIES = 8;
const GONE = "The server cannot be reached. Check the connection and try again.";
const UNREADABLE = "This file could not be read: it may have been moved or changed.";
const CANCELLED = "Cancelled.";

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function allReadable(chunk) {
  try {
    for (const scan of chunk) await scan.file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

export class Queue {
  /** `onChange(scan)` is called whenever the state of a scan, or of the queue, changes. */
  constructor(onChange) {
    this.scans = []; // {file, state: waiting | sending | done | failed, row, message}
    this.model = null; // the answer of GET /model
    this.running = false;
    this.onChange = onChange;
  }

  count(state) {
    return this.scans.filter((scan) => scan.state === state).length;
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
      }
    } finally {
      this.running = false;
      this.onChange(null);
    }
  }

  next() {
    const limit = this.model?.max_body_bytes ?? 32 * 2 ** 20;
    const most = Math.min(FILES_PER_REQUEST, this.model?.max_rows ?? FILES_PER_REQUEST);
    const chunk = [];
    let bytes = 0;
    for (const scan of this.scans) {
      if (scan.state !== "waiting") continue;
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
    let response;
    try {
      response = await this.post(chunk, signal);
      if (response.ok) return this.take(chunk, (await response.json()).predictions);
    } catch {
      if (signal.aborted) return false;
      const gone = await allReadable(chunk);
      if (!gone && chunk.length > 1) return this.sendSingly(chunk, signal);
      for (const scan of chunk) this.set(scan, "failed", gone ? GONE : UNREADABLE);
      return !gone;
    }
    // One scan that the server refuses must not cost its neighbours their answer.
    const mayDiffer = response.status !== 401 && response.status !== 503;
    if (mayDiffer && chunk.length > 1) return this.sendSingly(chunk, signal);
    const message = await sentenceFrom(response);
    for (const scan of chunk) this.set(scan, "failed", message);
    return mayDiffer;
  }

  async sendSingly(chunk, signal) {
    for (const scan of chunk) {
      if (!(await this.send([scan], signal))) return false;
    }
    return true;
  }

  async post(chunk, signal) {
    const path = this.model?.params?.explain ? "predict?explain=true" : "predict";
    for (let tries = 1; ; tries += 1) {
      const body = new FormData();
      for (const scan of chunk) body.append("files", scan.file, scan.file.name);
      const response = await ask(path, { method: "POST", body, signal });
      if (response.status !== 503 || tries === BUSY_TRIES) return response;
      await pause(Number(response.headers.get("Retry-After")) || 1, signal);
    }
  }

  take(chunk, rows) {
    rows.forEach((row, i) => {
      chunk[i].row = row;
      this.set(chunk[i], row.error ? "failed" : "done", row.error ?? "");
    });
    return true;
  }
}

// The very pixels that the server decoded, kept as long as there is room.

import { askPatiently, sentenceFrom } from "./server.js";

const ROOM_BYTES = 192 * 2 ** 20; // some 380 slices of 512 x 512
const AT_ONCE = 2; // requests; the one that was asked for last goes first
const kept = new Map(); // scan -> {pixels} or {promise}; in order of use
const waiting = [];
let running = 0;
let held = 0;

function keep(scan, pixels) {
  kept.set(scan, { pixels });
  held += pixels.values.byteLength;
  for (const [old, entry] of kept) {
    if (held <= ROOM_BYTES) break;
    if (!entry.pixels || old === scan) continue;
    held -= entry.pixels.values.byteLength;
    kept.delete(old);
  }
}

/** Forget everything, as when the results are cleared. */
export function forgetPixels() {
  for (const { reject } of waiting.splice(0)) reject(new Error("Cleared."));
  kept.clear();
  held = 0;
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    const { scan, resolve, reject } = waiting.pop();
    running += 1;
    fetchPixels(scan)
      .then(resolve, reject)
      .finally(() => {
        running -= 1;
        next();
      });
  }
}

/**
 * Return what the server decoded of a scan: {values, width, height, unit, inverted, spacing,
 * position}. `values` are HU (Int16Array) or grey levels (Uint8Array), row by row; `inverted` says
 * whether low HU are shown white; `spacing` is mm between rows and between columns, or null.
 */
export function pixelsOf(scan) {
  const entry = kept.get(scan);
  if (entry?.pixels) {
    kept.delete(scan);
    kept.set(scan, entry); // used last
    return Promise.resolve(entry.pixels);
  }
  if (entry) {
    const place = waiting.findIndex((task) => task.scan === scan);
    if (place >= 0) waiting.push(...waiting.splice(place, 1));
    return entry.promise;
  }
  const promise = new Promise((resolve, reject) => waiting.push({ scan, resolve, reject }));
  kept.set(scan, { promise });
  promise.then(
    (pixels) => kept.has(scan) && keep(scan, pixels),
    () => kept.delete(scan),
  );
  next();
  return promise;
}

function numberIn(text) {
  return text === null || text === "" || Number.isNaN(Number(text)) ? null : Number(text);
}

async function fetchPixels(scan) {
  const body = new FormData();
  body.append("files", await scan.file.read(), scan.file.name);
  const response = await askPatiently("pixels", { method: "POST", body });
  if (!response.ok) throw new Error(await sentenceFrom(response));
  const header = (name) => response.headers.get(name);
  const buffer = await response.arrayBuffer();
  const spacing = (header("X-Spacing-Mm") ?? "").split(/[,\\\s]+/).filter(Boolean).map(Number);
  const whole = spacing.length === 2 && spacing.every((mm) => mm > 0);
  return {
    values: header("X-Dtype") === "int16" ? new Int16Array(buffer) : new Uint8Array(buffer),
    width: Number(header("X-Width")),
    height: Number(header("X-Height")),
    unit: header("X-Unit"),
    inverted: header("X-Inverted") === "1",
    spacing: whole ? spacing : null,
    position: numberIn(header("X-Position-Mm")),
  };
}

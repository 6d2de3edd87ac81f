"use strict";

// The page works without this file as a plain form. With it, scans are sent a few at a time, each
// answer lands on its own card, and the key and the pictures stay in this tab.

const FILES_PER_REQUEST = 4;
const FORM_OVERHEAD_BYTES = 4096; // multipart boundaries and names around one file
const KEY_NAME = "chest-ct-key";
const BUSY_TRIES = 8;

const $ = (id) => document.getElementById(id);
const scans = []; // {file, card, state: waiting | sending | done | failed, row, message}
let model = null;
let running = false;
let abort = null;

document.documentElement.classList.add("js");

// --- Talking to the server -------------------------------------------------------------------

function storedKey() {
  try {
    return sessionStorage.getItem(KEY_NAME);
  } catch {
    return storedKey.memory ?? null; // storage switched off: the key lives as long as the page
  }
}

function storeKey(key) {
  storedKey.memory = key;
  try {
    sessionStorage.setItem(KEY_NAME, key);
  } catch {
    // storedKey.memory has it
  }
}

async function ask(path, options = {}) {
  const headers = { Accept: "application/json" };
  const key = storedKey();
  if (key) headers["X-API-Key"] = key;
  const response = await fetch(path, { ...options, headers, credentials: "omit" });
  $("change-key").hidden = !(key || response.status === 401);
  return response;
}

function askForKey(wrong) {
  const dialog = $("key-dialog");
  $("key-wrong").textContent = wrong ? "The server does not know this key." : "";
  $("key").value = "";
  if (!dialog.open) dialog.showModal();
  $("key").focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const key = dialog.returnValue === "use" ? $("key").value.trim() : "";
      $("key").value = "";
      dialog.returnValue = "";
      if (key) storeKey(key);
      resolve(Boolean(key));
    };
  });
}

async function askWithKey(path, options) {
  let response = await ask(path, options);
  while (response.status === 401) {
    if (!(await askForKey(storedKey() !== null))) return response;
    response = await ask(path, options);
  }
  return response;
}

async function sentenceFrom(response) {
  try {
    return (await response.json()).message || `The server answered ${response.status}.`;
  } catch {
    return `The server answered ${response.status}.`;
  }
}

// --- The queue -------------------------------------------------------------------------------

function nextChunk() {
  const limit = model?.max_body_bytes ?? 32 * 2 ** 20;
  const most = Math.min(FILES_PER_REQUEST, model?.max_rows ?? FILES_PER_REQUEST);
  const chunk = [];
  let bytes = 0;
  for (const scan of scans.filter((s) => s.state === "waiting")) {
    const size = scan.file.size + FORM_OVERHEAD_BYTES;
    if (chunk.length === most || (chunk.length && bytes + size > limit)) break;
    chunk.push(scan);
    bytes += size;
  }
  return chunk;
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

async function post(chunk, signal) {
  const path = model?.params?.explain ? "predict?explain=true" : "predict";
  for (let tries = 1; ; tries += 1) {
    const body = new FormData();
    for (const scan of chunk) body.append("files", scan.file, scan.file.name);
    const response = await askWithKey(path, { method: "POST", body, signal });
    if (response.status !== 503 || tries === BUSY_TRIES) return response;
    await pause(Number(response.headers.get("Retry-After")) || 1, signal);
  }
}

async function send(chunk, signal) {
  for (const scan of chunk) setState(scan, "sending");
  let response;
  try {
    response = await post(chunk, signal);
  } catch (error) {
    const gone = "The server cannot be reached. Check the connection and try again.";
    const unreadable = "The file could not be sent: it may have been moved or changed.";
    const message = signal.aborted ? "Cancelled." : (await readable(chunk)) ? gone : unreadable;
    if (message === unreadable && chunk.length > 1) return sendSingly(chunk, signal);
    for (const scan of chunk) setState(scan, "failed", message);
    return message !== gone;
  }
  if (response.ok) {
    const answer = await response.json();
    answer.predictions.forEach((row, i) => {
      chunk[i].row = row;
      setState(chunk[i], row.error ? "failed" : "done", row.error);
    });
    return true;
  }
  if (response.status !== 401 && chunk.length > 1) return sendSingly(chunk, signal);
  const message = await sentenceFrom(response);
  for (const scan of chunk) setState(scan, "failed", message);
  return response.status !== 401;
}

async function sendSingly(chunk, signal) {
  for (const scan of chunk) {
    if (signal.aborted) setState(scan, "failed", "Cancelled.");
    else if (!(await send([scan], signal))) return false;
  }
  return true;
}

async function readable(chunk) {
  try {
    for (const scan of chunk) await scan.file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

async function run() {
  if (running) return;
  running = true;
  abort = new AbortController();
  try {
    for (let chunk = nextChunk(); chunk.length; chunk = nextChunk()) {
      const goOn = await send(chunk, abort.signal);
      if (goOn && !abort.signal.aborted) continue;
      const why = abort.signal.aborted ? "Cancelled." : chunk[0].message;
      for (const scan of scans) if (["waiting", "sending"].includes(scan.state)) setState(scan, "failed", why);
    }
  } finally {
    running = false;
    showProgress();
  }
}

function add(files) {
  const limit = model?.max_body_bytes ?? Infinity;
  for (const file of files) {
    const scan = { file, card: newCard(file), state: "waiting", row: null, message: "" };
    scans.push(scan);
    if (file.size + FORM_OVERHEAD_BYTES > limit) {
      const most = (limit / 2 ** 20).toFixed(0);
      setState(scan, "failed", `This file is larger than the ${most} MB the server takes.`);
    } else {
      setState(scan, "waiting");
    }
  }
  if (files.length) run();
}

// --- What is shown ---------------------------------------------------------------------------

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function newCard(file) {
  const card = $("card").content.cloneNode(true).firstElementChild;
  card.querySelector(".file").textContent = file.name;
  const picture = card.querySelector(".picture");
  picture.alt = `Preview of ${file.name}`;
  picture.onerror = () => {
    picture.hidden = true;
    card.querySelector(".no-picture").hidden = false;
  };
  picture.src = URL.createObjectURL(file);
  $("cards").append(card);
  return card;
}

function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  if (p > 0.999 && p < 1) return "> 99.9 %";
  return `${(100 * p).toFixed(1)} %`;
}

function setState(scan, state, message = "") {
  scan.state = state;
  scan.message = message || "";
  const { card, row } = scan;
  card.className = `card ${state === "sending" ? "waiting" : state}`;
  const verdict = card.querySelector(".verdict");
  const waitingText = { waiting: "Waiting", sending: "Being scored …" }[state];
  verdict.replaceChildren();
  card.querySelector(".bars").replaceChildren();
  if (state === "done") {
    verdict.append(element("strong", row.label), ` ${percent(row.probability)}`);
    showBars(card, row);
    showExtras(card, row);
  } else {
    verdict.textContent = waitingText ?? scan.message;
  }
  showProgress();
}

function showBars(card, row) {
  const bars = card.querySelector(".bars");
  for (const [column, p] of Object.entries(row)) {
    if (!column.startsWith("p_")) continue;
    const name = column.slice(2);
    const bar = element("div", undefined, name === row.label ? "bar chosen" : "bar");
    const meter = element("meter");
    Object.assign(meter, { min: 0, max: 1, value: p });
    meter.setAttribute("aria-label", name);
    const value = element("dd");
    value.append(meter, element("span", percent(p)));
    bar.append(element("dt", name), value);
    bars.append(bar);
  }
}

function showExtras(card, row) {
  const warning = card.querySelector(".warn");
  warning.hidden = !row.out_of_domain;
  warning.textContent =
    "This does not look like the scans the model was trained on: do not rely on the answer.";
  if (!row.heatmap) return;
  const heatmap = card.querySelector(".heatmap");
  heatmap.src = `data:image/png;base64,${row.heatmap}`;
  heatmap.alt = `Parts of ${row.file} that the answer rests on`;
  heatmap.hidden = false;
}

function showProgress() {
  const answered = scans.filter((s) => s.state === "done").length;
  const failed = scans.filter((s) => s.state === "failed");
  const open = scans.length - answered - failed.length;
  $("results").hidden = !scans.length;
  document.body.classList.toggle("has-results", scans.length > 0);
  Object.assign($("progress"), { max: scans.length || 1, value: scans.length - open });
  $("progress").hidden = !open;
  $("cancel").hidden = !running || !open;
  $("retry").hidden = running || !failed.some((s) => !s.row);
  $("csv").disabled = open > 0 || !scans.length;
  $("clear").disabled = running;
  $("explain-tool").hidden = !scans.some((s) => s.row?.heatmap);
  showStatus(answered, failed.length, open);
}

function showStatus(answered, failed, open) {
  const total = scans.length;
  let text = "";
  if (open) text = `${total - open} of ${total} scans done`;
  else if (total) {
    text = `${total} scan${total === 1 ? "" : "s"} done: ${answered} scored`;
    text += failed ? `, ${failed} without an answer.` : ".";
  }
  if ($("status").textContent !== text) $("status").textContent = text;
}

function clearAll() {
  for (const scan of scans) URL.revokeObjectURL(scan.card.querySelector(".picture").src);
  scans.length = 0;
  $("cards").replaceChildren();
  showProgress();
  $("choose").focus();
}

// --- Results as CSV --------------------------------------------------------------------------

function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  // A spreadsheet runs a cell that starts like this as a formula, and a file's name is a stranger's.
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csvText() {
  const names = new Set(["file", "label", "probability"]);
  for (const { row } of scans) for (const name of Object.keys(row ?? {})) names.add(name);
  names.delete("heatmap");
  names.add("error");
  const served = model?.name ? `${model.name}/${model.version}` : (model?.model_digest ?? "");
  const lines = [[...names, "model", "notice"]];
  for (const scan of scans) {
    const row = { file: scan.file.name, ...scan.row, ...(scan.message && { error: scan.message }) };
    const cells = [...names].map((name) => row[name]);
    lines.push([...cells, served, "Research software, not a medical device"]);
  }
  return lines.map((cells) => cells.map(csvCell).join(",") + "\r\n").join("");
}

function downloadCsv() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", csvText()], { type: "text/csv" }));
  link.download = `chest-ct-results-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- About the model -------------------------------------------------------------------------

async function loadModel() {
  try {
    const response = await askWithKey("model");
    if (!response.ok) return;
    model = await response.json();
  } catch {
    $("status").textContent = "The server cannot be reached. Check the connection and reload.";
    return;
  }
  const version = model.version ? ` version ${model.version}` : "";
  const stage = model.stage ? ` · ${model.stage}` : "";
  $("model-line").textContent = `${model.name ?? "Unregistered model"}${version}${stage}`;
  $("phantom").hidden = !model.phantom;
  showAbout();
}

function showAbout() {
  const facts = {
    Classes: model.classes?.join(", "),
    Precision: model.precision,
    "Trained on": model.phantom ? "synthetic phantom data" : null,
    "Training data": model.data_digest,
    Model: model.model_digest,
    Aliases: model.aliases?.join(", "),
  };
  for (const [name, value] of Object.entries(facts)) {
    if (value) $("about-list").append(element("dt", name), element("dd", String(value)));
  }
  $("about").hidden = false;
}

// --- Ways in ---------------------------------------------------------------------------------

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const inner of entries) files.push(...(await filesIn(inner)));
  }
}

async function dropped(transfer) {
  // The list of items is only there during the event, so it is copied before the first await.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) files.push(...(await filesIn(entry)));
  return files;
}

for (const id of ["choose", "camera"]) {
  $(id).addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
}
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) event.preventDefault();
  add(files);
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(await dropped(event.dataTransfer));
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("cancel").addEventListener("click", () => abort?.abort(new Error("cancelled")));
$("clear").addEventListener("click", clearAll);
$("csv").addEventListener("click", downloadCsv);
$("retry").addEventListener("click", () => {
  for (const scan of scans) if (scan.state === "failed" && !scan.row) setState(scan, "waiting");
  run();
});
$("explain").addEventListener("change", (event) => {
  $("cards").classList.toggle("explaining", event.target.checked);
});
$("change-key").addEventListener("click", async () => {
  if (await askForKey(false)) loadModel();
});
$("key-form").addEventListener("submit", () => ($("key-dialog").returnValue = "use"));
$("key-later").addEventListener("click", () => $("key-dialog").close(""));

loadModel();

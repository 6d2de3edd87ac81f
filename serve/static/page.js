// The page works without this file as a plain form. With it, each answer lands on its own card,
// and pictures and key stay in this tab.

import { showAbout } from "./about.js";
import { kindOf, leastShare, percent, diseaseProbability } from "./answer.js";
import { Board } from "./board.js";
import { drawAll, warm } from "./cards.js";
import { csvText } from "./csv.js";
import { $, element, setText } from "./dom.js";
import { chosen, dropped } from "./intake.js";
import { entryOf, filtersFor, ordered, passes } from "./listing.js";
import { modelLine } from "./model_words.js";
import { Queue } from "./queue.js";
import { now, printReport } from "./report.js";
import { ask, askForKey } from "./server.js";
import { showScan, showSeries } from "./stage.js";

const queue = new Queue({
  onChange: (scan) => {
    if (scan) board.changed(scan);
    soon();
  },
  onGroup: (group) => board.finish(group),
});
const board = new Board(queue, {
  enlargeScan: (scan) => showScan(scan, queue.model, wordsFor(scan)),
  enlarge: (series) => showSeries(series, null, allSeries(), queue.model),
  compare: (series) => showSeries(series, allSeries().find((other) => other !== series), allSeries(), queue.model),
  report: (series) => printReport(series, queue.model).catch((error) => setText($("status"), error.message)),
});

function allSeries() {
  return [...board.series.values()];
}

function wordsFor({ row }) {
  const p = row && !row.error ? diseaseProbability(row, queue.model) : null;
  return p === null ? "" : `disease ${percent(p, leastShare(queue.model))}`;
}

let due = false;

// A drop of a thousand files changes a thousand times; the page follows once per turn.
function soon() {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    showProgress();
  });
}

async function take(given) {
  const sources = await given;
  if (!sources.length) return;
  setText($("status"), "Looking through what was given …");
  const added = await board.add(sources);
  showProgress();
  if (added) await queue.run();
  showProgress();
}

function showProgress() {
  const { scans, running, open } = queue;
  const leftOut = board.withoutCard();
  const any = scans.length > 0 || leftOut.length > 0;
  placeForm(any);
  $("results-bar").hidden = !any;
  Object.assign($("progress"), { max: scans.length || 1, value: scans.length - open });
  $("progress").hidden = !open;
  $("cancel").hidden = !open;
  $("retry").hidden = running || !scans.some((s) => s.state === "failed" && !s.row);
  $("csv").disabled = $("clear").disabled = $("print").disabled = running || open > 0 || !any;
  const explains = "explain" in (queue.model?.params ?? {});
  $("explain-tool").hidden = !explains || !scans.some(({ card, state }) => card && state === "done");
  say(scans.length, open, queue.count("failed"));
  showLeftOut(leftOut);
  list();
}

// Results come before the drop zone once there are some: on a phone they would be below the fold.
function placeForm(any) {
  document.body.classList.toggle("has-results", any);
  const [form, results] = [$("form"), $("results")];
  if (any === (results.compareDocumentPosition(form) === Node.DOCUMENT_POSITION_FOLLOWING)) return;
  const focused = form.contains(document.activeElement) ? document.activeElement : null;
  if (any) results.after(form);
  else results.before(form);
  focused?.focus();
}

function say(total, open, failed) {
  let text = "";
  if (open) text = `${total - open} of ${total} scans done`;
  else if (total) {
    text = `${total} scan${total === 1 ? "" : "s"} done: ${total - failed - skipped()} scored`;
    if (skipped()) text += `, ${skipped()} skipped beside a scored neighbour`;
    text += failed ? `, ${failed} without an answer.` : ".";
    text += kinds(queue.scans);
    if (board.series.size) text += ` ${board.series.size} series.`;
  }
  setText($("status"), text);
}

function skipped() {
  return queue.scans.filter(({ row }) => row && kindOf(row) === "skipped").length;
}

// Nothing is counted under a label that must not be relied on.
function kinds(scans) {
  const count = (kind) => scans.filter(({ row }) => row && kindOf(row) === kind).length;
  const [odd, undecided] = [count("out_of_domain"), count("undecided")];
  if (!odd && !undecided) return "";
  return ` Answered: ${count("answered")}, undecided: ${undecided}, out of domain: ${odd}.`;
}

function showLeftOut(leftOut) {
  $("left-out").hidden = !leftOut.length;
  const n = leftOut.length;
  setText($("left-out-title"), `${n} file${n === 1 ? "" : "s"} without an answer`);
  if ($("left-out-list").childElementCount === n) return;
  $("left-out-list").replaceChildren(
    ...leftOut.map(({ path, reason }) => {
      const item = element("li");
      item.append(element("strong", path), ` ${reason}`);
      return item;
    }),
  );
}

// Show the cards that pass the filter, in the order that is chosen.
function list() {
  const entries = board.items.map((item, place) => entryOf(item.root, place, item, queue.model));
  $("listing").hidden = entries.length < 2;
  const filters = filtersFor(entries);
  const chosenFilter = filters.some(([value]) => value === $("filter").value) ? $("filter").value : "";
  const options = filters.map(([value, words]) => new Option(words, value));
  const shown = [...$("filter").options].map(({ text }) => text);
  if (options.some(({ text }, i) => text !== shown[i]) || shown.length !== options.length) {
    $("filter").replaceChildren(...options); // only when they differ: it may be open
  }
  $("filter").value = chosenFilter;
  const sorted = ordered(entries, $("sort").value);
  for (const entry of entries) entry.root.hidden = !passes(entry, chosenFilter);
  const inPlace = sorted.every(({ root }, i) => $("cards").children[i] === root);
  if (!inPlace) $("cards").append(...sorted.map(({ root }) => root));
}

function clearAll() {
  board.clear();
  $("filter").value = "";
  $("sort").value = "given";
  showProgress();
  $("choose").focus();
}

function downloadCsv() {
  const answers = new Map([...board.series].map(([uid, { answer }]) => [uid, answer]));
  const link = element("a");
  // The mark at the start tells Excel that the text is UTF-8.
  const file = new Blob(["\ufeff", csvText(queue.scans, answers, queue.model)], { type: "text/csv" });
  link.href = URL.createObjectURL(file);
  link.download = `chest-ct-results-${new Date().toISOString().slice(0, 10)}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function loadModel() {
  try {
    const response = await ask("model");
    if (!response.ok) return;
    queue.model = await response.json();
  } catch {
    $("status").textContent = "The server cannot be reached. Check the connection and reload.";
    return;
  }
  $("model-line").textContent = modelLine(queue.model);
  $("results-model").textContent = `${modelLine(queue.model)}. `;
  $("phantom").hidden = !queue.model.phantom;
  showAbout(queue.model);
}

for (const id of ["choose", "folder", "camera"]) {
  $(id).addEventListener("change", (event) => {
    take(chosen(event.target.files));
    event.target.value = "";
  });
}
document.addEventListener("paste", (event) => {
  const files = event.clipboardData?.files ?? [];
  if (files.length) event.preventDefault();
  take(chosen(files));
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(dropped(event.dataTransfer));
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("cancel").addEventListener("click", () => queue.cancel());
$("retry").addEventListener("click", () => queue.retry());
$("clear").addEventListener("click", clearAll);
$("csv").addEventListener("click", downloadCsv);
$("print").addEventListener("click", async () => {
  setText($("status"), "Fetching the pictures …");
  await drawAll(queue.scans);
  showProgress();
  window.print();
});
$("sort").addEventListener("change", list);
$("filter").addEventListener("change", list);
$("explain").addEventListener("change", (event) => {
  $("cards").classList.toggle("explaining", event.target.checked);
  if (event.target.checked) warm(queue.scans);
});
for (const id of ["change-key", "give-key"]) {
  $(id).addEventListener("click", async () => {
    if (await askForKey(false)) loadModel();
  });
}
window.addEventListener("beforeprint", () => setText($("print-date"), now()));
window.addEventListener("beforeunload", (event) => {
  if (queue.scans.length) event.preventDefault(); // results are in this tab only
});

document.documentElement.classList.add("js");
loadModel();

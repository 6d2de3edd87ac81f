// The page works without this file as a plain form. With it, each answer lands on its own card,
// and pictures and key stay in this tab.

import { element, inWords, kindOf, newCard, percent, showOnCard } from "./cards.js";
import { csvText } from "./csv.js";
import { Queue } from "./queue.js";
import { ask, askForKey } from "./server.js";

// What of evaluation's scores.json is shown, and how people write it.
const SCORES = {
  accuracy: "Accuracy",
  balanced_accuracy: "Balanced accuracy",
  roc_auc: "ROC AUC",
  sensitivity: "Sensitivity",
  specificity: "Specificity",
};

const $ = (id) => document.getElementById(id);
const queue = new Queue((scan) => {
  if (scan) showOnCard(scan, queue.model?.threshold);
  showProgress();
});

function addFiles(files) {
  for (const file of files) {
    const card = newCard(file);
    $("cards").append(card);
    queue.add({ file, card, row: null });
  }
  if (files.length) queue.run();
}

function showProgress() {
  const { scans, running } = queue;
  const open = queue.count("waiting") + queue.count("sending");
  document.body.classList.toggle("has-results", scans.length > 0);
  $("results-bar").hidden = !scans.length;
  Object.assign($("progress"), { max: scans.length || 1, value: scans.length - open });
  $("progress").hidden = !open;
  $("cancel").hidden = !open;
  $("retry").hidden = running || !scans.some((s) => s.state === "failed" && !s.row);
  $("csv").disabled = open > 0 || !scans.length;
  $("clear").disabled = open > 0;
  $("explain-tool").hidden = !scans.some((s) => s.row?.heatmap);
  say(scans.length, open, queue.count("failed"));
}

function say(total, open, failed) {
  let text = "";
  if (open) text = `${total - open} of ${total} scans done`;
  else if (total) {
    text = `${total} scan${total === 1 ? "" : "s"} done: ${total - failed} scored`;
    text += failed ? `, ${failed} without an answer.` : ".";
    text += kinds(queue.scans);
  }
  if ($("status").textContent !== text) $("status").textContent = text;
}

// Nothing is counted under a label that must not be relied on.
function kinds(scans) {
  const count = (kind) => scans.filter(({ row }) => row && kindOf(row) === kind).length;
  const [odd, undecided] = [count("out_of_domain"), count("undecided")];
  if (!odd && !undecided) return "";
  return ` Answered: ${count("answered")}, undecided: ${undecided}, out of domain: ${odd}.`;
}

function clearAll() {
  for (const { card } of queue.scans) URL.revokeObjectURL(card.querySelector(".picture").src);
  $("cards").replaceChildren();
  queue.clear();
  $("choose").focus();
}

function downloadCsv() {
  const link = element("a");
  // The mark at the start tells Excel that the text is UTF-8.
  const file = new Blob(["\ufeff", csvText(queue.scans, queue.model)], { type: "text/csv" });
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
  const { name, version, stage, phantom, model_digest: digest } = queue.model;
  const unregistered = digest ? `Model ${digest.slice(0, 12)}` : "Unregistered model";
  const parts = name ? [name, `version ${version}`, stage] : [unregistered];
  $("model-line").textContent = parts.filter(Boolean).join(" · ");
  $("results-model").textContent = `${$("model-line").textContent}. `;
  $("phantom").hidden = !phantom;
  showAbout(queue.model);
}

function showAbout(model) {
  const facts = {
    Classes: model.classes?.map(inWords).join(", "),
    "Intended use": model.intended_use,
    "Trained on": model.phantom ? "synthetic phantom data" : null,
    "Training data digest": model.data_digest,
    "Model digest": model.model_digest,
    Precision: model.precision,
    Threshold: typeof model.threshold === "number" ? `${percent(model.threshold)} of disease` : null,
    Aliases: model.aliases?.join(", "),
  };
  $("about-list").replaceChildren();
  for (const [name, value] of Object.entries(facts)) {
    if (value) $("about-list").append(element("dt", name), element("dd", value));
  }
  showScores(model.scores, model.external ?? {});
  $("about").hidden = false;
}

// accuracy: 0.9 with accuracy_ci95: [low, high] beside it, or sensitivity: {value, ci95}.
function scoreInWords(scores, name) {
  const score = scores?.[name];
  const value = typeof score === "number" ? score : score?.value;
  if (typeof value !== "number") return null;
  const interval = score.ci95 ?? scores[`${name}_ci95`];
  const range = interval ? ` (${interval.map((p) => p.toFixed(3)).join(" to ")})` : "";
  return value.toFixed(3) + range;
}

function headed(words, scope) {
  const cell = element("th", words);
  cell.scope = scope;
  return cell;
}

// Scores on the model's own test split, and beside them those on scans from elsewhere.
function showScores(scores, external) {
  const counted = (words, n) => (typeof n === "number" ? `${words} (${n} scans)` : words);
  const columns = scores ? [[counted("Own test split", scores.n), scores]] : [];
  for (const [name, of] of Object.entries(external)) {
    columns.push([counted(`Elsewhere: ${inWords(name)}`, of.scans), of]);
  }
  const rows = [];
  for (const [name, words] of Object.entries(SCORES)) {
    const cells = columns.map(([, of]) => scoreInWords(of, name));
    if (cells.every((cell) => cell === null)) continue;
    const row = element("tr");
    row.append(headed(words, "row"), ...cells.map((cell) => element("td", cell ?? "–")));
    rows.push(row);
  }
  $("scores").hidden = !rows.length;
  const titles = columns.map(([words]) => headed(words, "col"));
  $("scores-head").replaceChildren(headed("Score", "col"), ...titles);
  $("scores-body").replaceChildren(...rows);
  $("no-external").hidden = !rows.length || Object.keys(external).length > 0;
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    // A folder is read a hundred entries at a time; an empty list is the end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const inner of entries) files.push(...(await filesIn(inner)));
  }
}

async function filesDropped(transfer) {
  // The items are only there during the event, so they are read before the first await.
  const plain = [...transfer.files];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return plain;
  const files = [];
  for (const entry of entries) files.push(...(await filesIn(entry)));
  return files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
}

for (const id of ["choose", "camera"]) {
  $(id).addEventListener("change", (event) => {
    addFiles([...event.target.files]);
    event.target.value = "";
  });
}
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) event.preventDefault();
  addFiles(files);
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
  addFiles(await filesDropped(event.dataTransfer));
});
$("form").addEventListener("submit", (event) => event.preventDefault());
$("cancel").addEventListener("click", () => queue.cancel());
$("retry").addEventListener("click", () => queue.retry());
$("clear").addEventListener("click", clearAll);
$("csv").addEventListener("click", downloadCsv);
$("explain").addEventListener("change", (event) => {
  $("cards").classList.toggle("explaining", event.target.checked);
});
$("change-key").addEventListener("click", async () => {
  if (await askForKey(false)) loadModel();
});

document.documentElement.classList.add("js");
loadModel();

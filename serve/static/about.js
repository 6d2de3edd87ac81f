// "About this model": what it is for, what it learned from, how it scored, where it ends.

import { inWords, seriesThreshold } from "./answer.js";
import { $, element } from "./dom.js";
import { modelLine, share, thresholdInWords } from "./model_words.js";

// What of evaluation's scores.json is shown, and how people write it.
const SCORES = {
  accuracy: "Accuracy",
  balanced_accuracy: "Balanced accuracy",
  roc_auc: "ROC AUC",
  sensitivity: "Sensitivity",
  specificity: "Specificity",
};
const SHARES = { out_of_domain: "Out of domain", undecided: "Undecided" };

function list(id, facts) {
  $(id).replaceChildren();
  for (const [name, value] of Object.entries(facts)) {
    if (value) $(id).append(element("dt", name), element("dd", value));
  }
}

/** Return a date that MLflow writes (UTC) as a day, or null. */
function day(text) {
  return typeof text === "string" ? text.slice(0, 10) : null;
}

function trainedOn({ phantom, classes, source }) {
  if (phantom) return "Computer-drawn phantoms, not scans of people.";
  const of = classes ? ` labelled ${classes.map(inWords).join(", ")}` : "";
  return `${source ? `${source}: single` : "Single"} axial chest CT slices${of}. The model card names the collection and its terms.`;
}

/** Show what GET /model tells. */
export function showAbout(model) {
  list("about-list", {
    "Intended use": "Learning, teaching and research. Not for diagnosis, triage or any decision about a person.",
    "Trained on": trainedOn(model),
    Classes: model.classes?.map(inWords).join(", "),
    "Threshold of a slice": thresholdInWords(model.threshold),
    "Threshold of a series": thresholdInWords(seriesThreshold(model)),
  });
  list("about-technical", {
    Model: modelLine(model),
    Aliases: model.aliases?.join(", "),
    Saved: day(model.created_at),
    Precision: model.precision,
    "Picture side": model.image_size_px ? `${model.image_size_px} pixels` : null,
    "Model digest": model.model_digest,
    "Training data digest": model.data_digest,
  });
  showScores(model.scores, model.external ?? {});
  const limits = limitsOf(model);
  $("about-limits").replaceChildren(...limits.map((text) => element("li", text)));
  $("model-card").hidden = !model.card;
  $("model-card-text").textContent = model.card ?? "";
  $("about").hidden = false;
}

function limitsOf({ classes, external, params }) {
  const known = classes?.map(inWords).join(", ") ?? "its classes";
  const limits = [
    `It knows ${known} and nothing else: other lung disease, such as pneumonia, may be read as one of these.`,
    "It reads axial chest CT only. It is asked to flag other pictures as out of domain, and misses some.",
    "Another scanner, reconstruction kernel or contrast phase can change an answer.",
    "Probabilities and thresholds hold for scans like those it was trained on; elsewhere, trust the ranking more than the number.",
  ];
  if (!external || !Object.keys(external).length) {
    limits.push("It has been scored on no scans from elsewhere. Its scores say how it does on scans like those it was trained on.");
  }
  if (params && "explain" in params) {
    limits.push("A heat map shows what the answer rests on. It is not an outline of a tumour.");
  }
  return limits;
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

// The own test split nests shares deeper than an external set does.
function shareOf(scores, name) {
  const found = scores?.[name];
  if (typeof found === "number") return share(found);
  return share(found?.[name]?.value ?? found?.all?.value ?? found?.value);
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
  const ofSeries = scores?.series?.series;
  if (ofSeries) columns.push([`Own test split (${ofSeries.n} series)`, ofSeries]);
  for (const [name, of] of Object.entries(external)) {
    columns.push([counted(`Elsewhere: ${inWords(name)}`, of.scans), of]);
  }
  const rows = [];
  const kinds = [[SCORES, scoreInWords], [SHARES, shareOf]];
  for (const [names, inCell] of kinds) {
    for (const [name, words] of Object.entries(names)) {
      const cells = columns.map(([, of]) => inCell(of, name));
      if (cells.every((cell) => cell === null)) continue;
      const row = element("tr");
      row.append(headed(words, "row"), ...cells.map((cell) => element("td", cell ?? "–")));
      rows.push(row);
    }
  }
  $("scores-frame").hidden = !rows.length;
  const titles = columns.map(([words]) => headed(words, "col"));
  $("scores-head").replaceChildren(headed("Score", "col"), ...titles);
  $("scores-body").replaceChildren(...rows);
  $("no-scores").hidden = rows.length > 0;
}

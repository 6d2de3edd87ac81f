// What one scan looks like on the page.

const OUT_OF_DOMAIN =
  "This does not look like the scans the model was trained on: do not rely on the answer.";
const UNDECIDED =
  "The model cannot tell the classes apart here at the error rate it was made for: do not rely on the likelier one.";
const HEALTHY = "normal"; // the class of scans without a finding
const WORDS = { waiting: "Waiting", sending: "Being scored …" };

/** Return a new element with text (never HTML) and a class. */
export function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Return a class name as people write it: `large.cell.carcinoma` is read out dot by dot. */
export function inWords(name) {
  return name.replaceAll(/[._]+/g, " ");
}

/** Return a probability as a percentage that never rounds to certainty. */
export function percent(p) {
  if (p > 0 && p < 0.001) return "< 0.1 %";
  if (p > 0.999 && p < 1) return "> 99.9 %";
  return `${(100 * p).toFixed(1)} %`;
}

/** Return a card for a file, with its preview where the browser can show one. */
export function newCard(file) {
  const card = document.getElementById("card").content.cloneNode(true).firstElementChild;
  card.querySelector(".file").textContent = file.name;
  const picture = card.querySelector(".picture");
  picture.alt = `Preview of ${file.name}`;
  picture.addEventListener("error", () => card.querySelector(".scan").classList.add("unseen"));
  picture.addEventListener("load", () => fit(card.querySelector(".frame"), picture));
  picture.src = URL.createObjectURL(file);
  return card;
}

/** Give the frame the picture's shape, so that a heat map stretched over it lies on the scan. */
function fit(frame, { naturalWidth, naturalHeight }) {
  const ratio = naturalWidth / naturalHeight;
  frame.style.width = `min(100%, calc(var(--scan-height) * ${ratio}))`;
  frame.style.aspectRatio = ratio;
}

/** Return which kind of answer a row is: failed, out_of_domain, undecided or answered. */
export function kindOf(row) {
  if (!row || row.error) return "failed";
  if (row.out_of_domain) return "out_of_domain";
  return row.undecided ? "undecided" : "answered";
}

/** Return the probability of any disease: what the healthy class leaves; null without one. */
export function diseaseProbability(row) {
  const column = Object.keys(row).find((name) => name.toLowerCase() === `p_${HEALTHY}`);
  return column && typeof row[column] === "number" ? 1 - row[column] : null;
}

/** Show a scan's state, answer or error on its card. */
export function showOnCard({ card, state, row, message }, threshold) {
  card.className = `card ${state === "sending" ? "waiting" : state}`;
  const verdict = card.querySelector(".verdict");
  card.querySelector(".bars").replaceChildren();
  card.querySelector(".why").textContent = "";
  if (state !== "done") {
    verdict.textContent = WORDS[state] ?? message;
    return;
  }
  const kind = kindOf(row);
  showVerdict(verdict, kind, row);
  if (kind === "answered") card.querySelector(".why").textContent = why(row, threshold);
  showBars(card, row, kind, threshold);
  const warning = card.querySelector(".warn");
  warning.hidden = kind === "answered";
  warning.textContent = kind === "undecided" ? UNDECIDED : OUT_OF_DOMAIN;
  if (row.heatmap) showHeatmap(card, row);
}

// What must not be relied on comes before a label, and instead of a big one.
function showVerdict(verdict, kind, row) {
  const likelier = ` nearest label: ${inWords(row.label)}`;
  if (kind === "out_of_domain") verdict.replaceChildren(element("strong", "Out of domain"), likelier);
  else if (kind === "undecided") verdict.replaceChildren(element("strong", "Undecided"), likelier);
  else if (Object.entries(row).some(([name, p]) => name.startsWith("p_") && p > row.probability)) {
    verdict.replaceChildren(element("strong", inWords(row.label))); // the threshold decided: see why
  } else verdict.replaceChildren(element("strong", inWords(row.label)), ` ${percent(row.probability)}`);
}

function why(row, threshold) {
  const disease = diseaseProbability(row);
  if (disease === null || typeof threshold !== "number") return "";
  const side = disease < threshold ? "below" : "at or above";
  return `Probability of disease ${percent(disease)}, ${side} the model's threshold of ${percent(threshold)}.`;
}

function showBars(card, row, kind, threshold) {
  const disease = diseaseProbability(row);
  const diseased = Object.keys(row).filter(
    (name) => name.startsWith("p_") && name.toLowerCase() !== `p_${HEALTHY}`,
  );
  const marked = disease !== null && typeof threshold === "number" ? threshold : null;
  const list = card.querySelector(".bars");
  for (const [column, p] of Object.entries(row)) {
    if (!column.startsWith("p_")) continue;
    const name = column.slice(2);
    const chosen = kind === "answered" && name === row.label;
    const mark = diseased.length === 1 && column === diseased[0] ? marked : null;
    list.append(bar(inWords(name), p, chosen, mark));
  }
  if (marked !== null && diseased.length > 1) list.append(bar("any disease", disease, false, marked));
}

function bar(name, p, chosen, mark) {
  const made = element("div", undefined, chosen ? "bar chosen" : "bar");
  const meter = element("meter");
  Object.assign(meter, { min: 0, max: 1, value: p });
  meter.setAttribute("aria-label", name);
  const track = element("div", undefined, "track");
  track.append(meter);
  if (mark !== null) {
    const line = element("i", undefined, "mark");
    line.style.left = `${100 * mark}%`;
    line.title = `threshold ${percent(mark)}`;
    track.append(line);
  }
  const value = element("dd");
  value.append(element("span", percent(p)), track);
  made.append(element("dt", name), value);
  return made;
}

function showHeatmap(card, row) {
  const heatmap = card.querySelector(".heatmap");
  heatmap.src = `data:image/png;base64,${row.heatmap}`;
  heatmap.alt = `Parts of ${row.file} that the answer rests on`;
  heatmap.hidden = false;
}

// What one scan looks like on the page.

const OUT_OF_DOMAIN =
  "This does not look like the scans the model was trained on: do not rely on the answer.";
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

/** Show a scan's state, answer or error on its card. */
export function showOnCard({ card, state, row, message }) {
  card.className = `card ${state === "sending" ? "waiting" : state}`;
  const verdict = card.querySelector(".verdict");
  card.querySelector(".bars").replaceChildren();
  if (state !== "done") {
    verdict.textContent = WORDS[state] ?? message;
    return;
  }
  verdict.replaceChildren(element("strong", inWords(row.label)), ` ${percent(row.probability)}`);
  showBars(card, row);
  const warning = card.querySelector(".warn");
  warning.hidden = !row.out_of_domain;
  warning.textContent = OUT_OF_DOMAIN;
  if (row.heatmap) showHeatmap(card, row);
}

function showBars(card, row) {
  for (const [column, p] of Object.entries(row)) {
    if (!column.startsWith("p_")) continue;
    const name = column.slice(2);
    const bar = element("div", undefined, name === row.label ? "bar chosen" : "bar");
    const meter = element("meter");
    Object.assign(meter, { min: 0, max: 1, value: p });
    meter.setAttribute("aria-label", inWords(name));
    const value = element("dd");
    value.append(element("span", percent(p)), meter);
    bar.append(element("dt", inWords(name)), value);
    card.querySelector(".bars").append(bar);
  }
}

function showHeatmap(card, row) {
  const heatmap = card.querySelector(".heatmap");
  heatmap.src = `data:image/png;base64,${row.heatmap}`;
  heatmap.alt = `Parts of ${row.file} that the answer rests on`;
  heatmap.hidden = false;
}

// What one scan looks like on the page.

import {
  inWords, kindOf, leastShare, likelierThanLabel, OUT_OF_DOMAIN, percent, UNDECIDED, whyLabel,
} from "./answer.js";
import { slicesBars } from "./bars.js";
import { element, fromTemplate } from "./dom.js";
import { heatmapOf } from "./heatmaps.js";
import { pixelsOf } from "./pixels.js";
import { aspect, draw } from "./windowing.js";

const WORDS = { waiting: "Waiting", sending: "Being scored …" };
const SIDE_PX = 640; // of a card's picture: two pixels a CSS pixel

/** Return a card for a scan; its picture is asked for once it is scored and in view. */
export function newCard(scan, onEnlarge) {
  const card = fromTemplate("card");
  card.querySelector(".file").textContent = scan.file.path;
  const button = card.querySelector(".enlarge");
  button.setAttribute("aria-label", `Enlarge ${scan.file.name}`);
  button.addEventListener("click", () => onEnlarge(scan));
  new IntersectionObserver((entries, observer) => {
    if (!entries.some(({ isIntersecting }) => isIntersecting)) return;
    scan.seen = true;
    if (scan.row || scan.state === "failed") observer.disconnect();
    showPicture(scan, card);
  }).observe(card);
  return card;
}

/** Draw the picture of a scan on its card, and its heat map where the cards show them. */
async function showPicture(scan, card) {
  if (!scan.seen || scan.drawn || scan.state !== "done") return;
  scan.drawn = true;
  const canvas = card.querySelector(".picture");
  try {
    const pixels = await pixelsOf(scan);
    draw(canvas, pixels, "lung", SIDE_PX);
    fit(card.querySelector(".frame"), aspect(pixels));
    card.querySelector(".enlarge").disabled = false;
  } catch {
    const seen = await drawAsBrowser(scan, canvas); // a model of an older layout gives no pixels
    if (seen) fit(card.querySelector(".frame"), canvas.width / canvas.height);
    else card.classList.add("unseen");
  }
  await showHeatmap(scan, card).catch(() => {});
}

async function drawAsBrowser(scan, canvas) {
  try {
    const bitmap = await createImageBitmap(await scan.file.read());
    Object.assign(canvas, { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    bitmap.close();
    return true;
  } catch {
    return false;
  }
}

async function showHeatmap(scan, card) {
  if (!card.closest(".explaining") || card.classList.contains("warmed")) return;
  const image = await heatmapOf(scan);
  if (!image) return;
  const overlay = card.querySelector(".heatmap");
  Object.assign(overlay, { width: image.naturalWidth, height: image.naturalHeight });
  overlay.getContext("2d").drawImage(image, 0, 0);
  card.classList.add("warmed");
}

/** Draw the pictures of all cards, also of those that nobody has scrolled to. */
export function drawAll(scans) {
  const shown = scans.filter(({ card }) => card);
  for (const scan of shown) scan.seen = true;
  return Promise.all(shown.map((scan) => showPicture(scan, scan.card)));
}

/** Show the heat maps of cards whose picture is drawn; the others follow with their picture. */
export function warm(scans) {
  for (const scan of scans) {
    if (scan.card && scan.drawn) showHeatmap(scan, scan.card).catch(() => {});
  }
}

/** Give the frame the picture's shape, so that a heat map stretched over it lies on the scan. */
function fit(frame, ratio) {
  frame.style.width = `min(100%, calc(var(--scan-height) * ${ratio}))`;
  frame.style.aspectRatio = ratio;
}

/** Show a scan's state, answer or error on its card. */
export function showOnCard(scan, model) {
  const { card, state, row, message } = scan;
  for (const name of ["waiting", "sending", "done", "failed"]) card.classList.toggle(name, name === state);
  const verdict = card.querySelector(".verdict");
  card.querySelector(".bars").replaceChildren();
  card.querySelector(".why").textContent = "";
  card.querySelector(".warn").hidden = true;
  if (state !== "done") {
    verdict.textContent = WORDS[state] ?? message;
    return;
  }
  const kind = kindOf(row);
  showVerdict(verdict, kind, row, leastShare(model));
  if (kind === "answered") card.querySelector(".why").textContent = whyLabel(row, model);
  card.querySelector(".bars").append(...slicesBars(row, kind, model));
  showWarning(card.querySelector(".warn"), kind);
  showPicture(scan, card);
}

/** Show why an answer must not be relied on, if it must not. */
export function showWarning(warning, kind) {
  warning.hidden = kind !== "undecided" && kind !== "out_of_domain";
  warning.textContent = kind === "undecided" ? UNDECIDED : OUT_OF_DOMAIN;
}

// What must not be relied on comes before a label, and instead of a big one.
function showVerdict(verdict, kind, row, least) {
  const likelier = ` nearest label: ${inWords(row.label)}`;
  if (kind === "out_of_domain") verdict.replaceChildren(element("strong", "Out of domain"), likelier);
  else if (kind === "undecided") verdict.replaceChildren(element("strong", "Undecided"), likelier);
  else if (likelierThanLabel(row)) {
    verdict.replaceChildren(element("strong", inWords(row.label))); // the threshold decided: see why
  } else {
    verdict.replaceChildren(element("strong", inWords(row.label)), ` ${percent(row.probability, least)}`);
  }
}

// "Print or save": one page on one series, with picture, answer, model and warnings.

import { inWords, kindOfSeries } from "./answer.js";
import { $, element, fromTemplate, setText } from "./dom.js";
import { heatmapOf } from "./heatmaps.js";
import { modelInWords } from "./model_words.js";
import { pixelsOf } from "./pixels.js";
import { caption, factsOf, remarksOn } from "./series.js";
import { showSeriesAnswer } from "./series_card.js";
import { Strip } from "./strip.js";
import { currentWindow } from "./viewer.js";
import { draw, WINDOWS } from "./windowing.js";

/** Return date and time as people write them, with the zone. */
export function now() {
  return new Date().toLocaleString(undefined, { dateStyle: "long", timeStyle: "long" });
}

function pairs(list, facts) {
  list.replaceChildren();
  for (const [name, value] of facts) {
    if (!value) continue;
    const pair = element("div");
    pair.append(element("dt", name), element("dd", value));
    list.append(pair);
  }
}

async function pictures(root, scan, words, explains) {
  const pixels = await pixelsOf(scan);
  const chosen = currentWindow();
  const named = pixels.unit === "HU" ? `${WINDOWS[chosen].words} window` : "grey levels of the file";
  draw(root.querySelector(".plain"), pixels, chosen);
  setText(root.querySelector(".plain-caption"), `${words}. ${named}.`);
  const image = explains ? await heatmapOf(scan).catch(() => null) : null;
  root.querySelector(".with-heat").hidden = !image;
  if (!image) return;
  const canvas = root.querySelector(".heated");
  draw(canvas, pixels, chosen);
  const target = canvas.getContext("2d");
  target.globalAlpha = 0.6;
  target.drawImage(image, 0, 0, canvas.width, canvas.height);
  const label = inWords(scan.row.label);
  setText(root.querySelector(".heat-caption"), `The same slice. Orange: what speaks for ${label}.`);
}

/** Fill the report for a series; resolves when its pictures are drawn. */
export async function fillReport(series, model) {
  const root = fromTemplate("report-page");
  $("report").replaceChildren(root);
  setText(root.querySelector(".date"), now());
  const kind = kindOfSeries(series.answer);
  showSeriesAnswer(root, series.answer, kind, model);
  pairs(root.querySelector(".counts"), [
    ["Files", series.name], ["Series UID", series.uid], ...factsOf(series),
  ]);
  root.querySelector(".remarks").replaceChildren(...remarksOn(series).map((text) => element("li", text)));
  root.querySelector(".phantom").hidden = !model?.phantom;
  pairs(root.querySelector(".model"), modelInWords(model));
  const slices = series.slices();
  const key = series.keySlice();
  const index = slices.indexOf(key);
  new Strip(root.querySelector(".strip"), model, () => {}).draw(slices, key);
  const words = caption(series, slices, index, key, model);
  await pictures(root, key, words, "explain" in (model?.params ?? {}));
}

/** Print a series' report; the browser's dialogue can save it as PDF. */
export async function printReport(series, model) {
  await fillReport(series, model);
  document.body.classList.add("reporting");
  window.addEventListener("afterprint", () => document.body.classList.remove("reporting"), { once: true });
  window.print();
}

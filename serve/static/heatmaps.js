// What a slice's answer rests on: asked for when it is looked at, since a series has hundreds.

import { askPatiently, sentenceFrom } from "./server.js";

const kept = new WeakMap(); // scan -> promise of an image, or of null where there is none

function imageFrom(text) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("The heat map cannot be shown."));
    image.src = `data:image/png;base64,${text}`;
  });
}

async function explained(scan) {
  const body = new FormData();
  body.append("files", await scan.file.read(), scan.file.name);
  const response = await askPatiently("predict?explain=true", { method: "POST", body });
  if (!response.ok) throw new Error(await sentenceFrom(response));
  const [row] = (await response.json()).predictions;
  return row?.heatmap ? imageFrom(row.heatmap) : null;
}

/** Return the heat map of a scan as an image to stretch over it, or null. */
export function heatmapOf(scan) {
  if (!kept.has(scan)) {
    const promise = explained(scan);
    kept.set(scan, promise);
    promise.catch(() => kept.delete(scan));
  }
  return kept.get(scan);
}

// The model that answers, in words.

import { inWords, seriesThreshold } from "./answer.js";

/** Return the name of the model as one line. */
export function modelLine({ name, version, stage, model_digest: digest }) {
  const unregistered = digest ? `Model ${digest.slice(0, 12)}` : "Unregistered model";
  const parts = name ? [name, `version ${version}`, stage] : [unregistered];
  return parts.filter(Boolean).join(" · ");
}

/** Return a threshold in words, or null. */
export function thresholdInWords(threshold) {
  return typeof threshold === "number" ? `${(100 * threshold).toFixed(1)} % probability of disease` : null;
}

/** Return what identifies a model, as pairs of words. */
export function modelInWords(model) {
  if (!model) return [];
  return [
    ["Model", modelLine(model)],
    ["Model digest", model.model_digest],
    ["Classes", model.classes?.map(inWords).join(", ")],
    ["Threshold of a slice", thresholdInWords(model.threshold)],
    ["Threshold of a series", thresholdInWords(seriesThreshold(model))],
  ];
}

/** Return a share as a percentage, or null. */
export function share(value) {
  return typeof value === "number" ? `${(100 * value).toFixed(1)} %` : null;
}

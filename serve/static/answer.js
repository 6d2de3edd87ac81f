// What an answer says, in words. Nothing here touches the page.

const HEALTHY = /^(normal|benign|bengin)/i; // for models that do not name their healthy classes
export const OUT_OF_DOMAIN =
  "This does not look like the scans the model was trained on: do not rely on the answer.";
export const UNDECIDED =
  "The model cannot tell the classes apart here at the error rate it was made for: do not rely on the likelier one.";

/** Return a class name as people write it: `large.cell.carcinoma` is read out dot by dot. */
export function inWords(name) {
  return name.replaceAll(/[._]+/g, " ");
}

/**
 * Return the smallest share that a model's calibration can tell from none: that of one scan among
 * as many as its smaller class was measured on, in whole percent.
 */
export function leastShare(model) {
  return leastOf([model?.scores?.sensitivity?.n, model?.scores?.specificity?.n]) ?? 0.01;
}

/** Return the same for probabilities of series, as far as the test split had series. */
export function leastShareOfSeries(model) {
  const { n, diseased } = model?.scores?.series?.series ?? {};
  return leastOf([diseased, n - diseased]) ?? leastShare(model);
}

function leastOf(counts) {
  const known = counts.filter((n) => n > 0);
  return known.length ? Math.ceil(100 / (Math.min(...known) + 1)) / 100 : null;
}

/** Return a probability as a percentage with no more digits than the calibration supports. */
export function percent(p, least = 0.01, digits = 0) {
  if (p < least) return `< ${Math.round(100 * least)} %`;
  if (p > 1 - least) return `> ${Math.round(100 * (1 - least))} %`;
  return `${(100 * p).toFixed(digits)} %`;
}

/** Return which kind of answer a row is: failed, skipped, out_of_domain, undecided or answered. */
export function kindOf(row) {
  if (!row || row.error) return "failed";
  if (row.skipped) return "skipped";
  if (row.out_of_domain) return "out_of_domain";
  return row.undecided ? "undecided" : "answered";
}

/**
 * Return which kind of answer a series has: failed, unanswered (its slices are, the series is not),
 * out_of_domain (most of its slices are), undecided or answered.
 */
export function kindOfSeries(answer) {
  if (!answer) return "failed";
  if (answer.error || !answer.label) return answer.scored ? "unanswered" : "failed";
  if (answer.out_of_domain_share > 0.5) return "out_of_domain";
  return answer.undecided ? "undecided" : "answered";
}

/** Return the names of a row's classes, in order. */
export function classesOf(row) {
  return Object.keys(row).filter((key) => key.startsWith("p_")).map((key) => key.slice(2));
}

/** Return whether a class is no disease. */
export function isHealthy(name, model) {
  const named = model?.healthy_classes ?? [];
  return named.length ? named.includes(name) : HEALTHY.test(name);
}

/** Return the probability of any disease: what the healthy classes leave; null without one. */
export function diseaseProbability(row, model) {
  const healthy = classesOf(row).filter((name) => isHealthy(name, model));
  if (!healthy.length || healthy.some((name) => typeof row[`p_${name}`] !== "number")) return null;
  return Math.min(1, Math.max(0, 1 - healthy.reduce((sum, name) => sum + row[`p_${name}`], 0)));
}

/** Return on which side of a threshold a probability lies, with digits enough to see it. */
export function beside(p, threshold, least, of = "the model's threshold") {
  const texts = [0, 1, 2, 3].map((d) => [percent(p, least, d), `${(100 * threshold).toFixed(d)} %`]);
  const [shown, limit] = texts.find(([a, b]) => a !== b) ?? texts[0];
  const side = p < threshold ? "below" : "at or above";
  return `Probability of disease ${shown}, ${side} ${of} of ${limit}`;
}

/** Return one sentence that says why a slice has its label; "" where no class is healthy. */
export function whyLabel(row, model) {
  const p = diseaseProbability(row, model);
  const threshold = model?.threshold;
  if (p === null || typeof threshold !== "number") return "";
  const against = p < threshold && !isHealthy(row.label, model);
  const so = against ? "; the label is a disease because a disease is the likeliest class" : "";
  return `${beside(p, threshold, leastShare(model))}${so}.`;
}

/** Return whether a class that is not the label is likelier: the threshold decided. */
export function likelierThanLabel(row) {
  return classesOf(row).some((name) => row[`p_${name}`] > row.probability);
}

/** Return a series' threshold on the probability of disease, or null. */
export function seriesThreshold(model) {
  return model?.series?.threshold ?? model?.series_threshold ?? null;
}

/** Return one sentence that says why a series has its label. */
export function whySeries(answer, model) {
  const threshold = seriesThreshold(model);
  const least = leastShareOfSeries(model);
  if (typeof answer.probability !== "number") return "";
  if (threshold === null) return `Probability of disease ${percent(answer.probability, least)}.`;
  return `${beside(answer.probability, threshold, least, "the series' threshold")}.`;
}

/** Return `1 slice`, `2 slices`. */
export function counted(n, word) {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

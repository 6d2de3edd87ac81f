// Results as CSV, safe to open in a spreadsheet.

const NOTICE = "Research software, not a medical device.";

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  // A spreadsheet runs a cell that starts like this as a formula; a file's name may be hostile.
  const text = /^[\s]*[=+\-@]|^[\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * Return scans as CSV text: the file, the pyfunc's columns without the heat map, the model.
 *
 * @param scans as of queue.js
 * @param answers of series, by the series' name: put into each of its slices' rows
 * @param model the answer of GET /model
 */
export function csvText(scans, answers, model) {
  const names = new Set(["file", "label", "probability"]);
  for (const { row } of scans) for (const name of Object.keys(row ?? {})) names.add(name);
  names.delete("heatmap");
  names.add("error");
  const served = model?.name ? `${model.name}/${model.version}` : (model?.model_digest ?? "");
  const lines = [[...names, "threshold", "model", "notice"]];
  for (const { file, row, message } of scans) {
    const values = { ...row, ...ofSeries(row, answers), file: file.path };
    values.error = row?.error ?? (message || null);
    lines.push([...[...names].map((name) => values[name]), model?.threshold, served, NOTICE]);
  }
  return lines.map((cells) => cells.map(cell).join(",") + "\r\n").join("");
}

// A call that scored a part of a series answered for that part; the whole series' answer counts.
function ofSeries(row, answers) {
  if (!row?.series) return {};
  const answer = answers.get(row.series);
  return {
    series_label: answer?.label ?? null,
    series_probability: answer?.probability ?? null,
    series_undecided: answer?.undecided ?? null,
    key_slice: answer ? answer.key_row === row : null,
  };
}

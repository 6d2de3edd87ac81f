// The large view: one scan, one series, or two series side by side.

import { $, element, setText } from "./dom.js";
import { SeriesView } from "./series_view.js";
import { newViewer } from "./viewer.js";

let open = { model: null, all: [], views: [] };

function column(title) {
  const made = element("section", undefined, "stage-column");
  made.setAttribute("aria-label", title);
  made.append(element("h3", title, "file"));
  $("stage-views").append(made);
  return made;
}

function start(title) {
  setText($("stage-title"), title);
  $("stage-views").replaceChildren();
  $("stage-compare").hidden = true;
  if (!$("stage").open) $("stage").showModal();
}

/** Show one scan large. */
export function showScan(scan, model, words) {
  start("Scan");
  const explains = "explain" in (model?.params ?? {});
  const viewer = newViewer(column(scan.file.path), { name: `Scan ${scan.file.name}`, explains });
  viewer.show(scan, words);
  viewer.stage.focus();
}

/** Show a series large; `beside` is another one next to it, or null; `all` those to choose from. */
export function showSeries(series, beside, all, model) {
  start("Series");
  open = { model, all, views: [] };
  add(series);
  const others = all.filter((other) => other !== series);
  $("stage-compare").hidden = !others.length;
  $("beside").replaceChildren(new Option("nothing", ""));
  for (const other of others) $("beside").append(new Option(other.name, all.indexOf(other)));
  $("beside").value = beside ? String(all.indexOf(beside)) : "";
  putBeside(beside);
  open.views[0].strip.track.focus();
}

function add(series) {
  open.views.push(new SeriesView(column(series.name), series, open.model, moved));
}

function moved(view) {
  if (!$("together").checked) return;
  for (const other of open.views) if (other !== view) other.follow(view);
}

function putBeside(series) {
  $("stage-views").children[1]?.remove();
  open.views.length = 1;
  $("together-tool").hidden = !series;
  $("stage-views").classList.toggle("two", Boolean(series));
  if (series) add(series);
}

$("beside").addEventListener("change", ({ target }) => {
  putBeside(target.value === "" ? null : open.all[Number(target.value)]);
});
$("stage-close").addEventListener("click", () => $("stage").close());
$("stage").addEventListener("close", () => $("stage-views").replaceChildren());

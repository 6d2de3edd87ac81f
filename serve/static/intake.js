// From what a person drops or chooses to sources: {name, path, size, read, head, inside}.

import { membersOf } from "./zip.js";

const ORDER = new Intl.Collator(undefined, { numeric: true });
const ZIP = /\.zip$/i;
const DICOM_AT = 128; // a DICOM file has "DICM" after a preamble of 128 bytes
const CLUTTER = /(^|\/)(\.|__MACOSX\/|Thumbs\.db$|desktop\.ini$)/i;
const INDEX = /(^|\/)DICOMDIR$/i;

function fromFile(file, path = file.webkitRelativePath || file.name) {
  const inside = path.includes("/");
  const head = async (bytes) => file.slice(0, bytes);
  return { name: file.name, path, size: file.size, read: async () => file, head, inside, file };
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [fromFile(file, entry.fullPath.replace(/^\//, ""))];
  }
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    // A folder is read a hundred entries at a time; an empty list is the end.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const inner of entries) files.push(...(await filesIn(inner)));
  }
}

/** Return what a drop holds, folders opened. To be called during the event. */
export function dropped(transfer) {
  // The items are only there during the event, so they are read before the first await.
  const plain = [...transfer.files].map((file) => fromFile(file));
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return Promise.resolve(plain);
  return Promise.all(entries.map(filesIn)).then((lists) => lists.flat());
}

/** Return what a file input or the clipboard holds. */
export function chosen(files) {
  return [...files].map((file) => fromFile(file));
}

async function opened(source) {
  const members = await membersOf(source.file);
  return members.map(({ name, size, read, head }) => ({
    name: name.split("/").at(-1), path: `${source.path}/${name}`, size, read, head, inside: true,
  }));
}

/**
 * Return {sources, leftOut}: zips opened, clutter of operating systems dropped, by path in order.
 * `leftOut` has {path, reason} of what is not sent.
 */
export async function unpacked(given) {
  const sources = [];
  const leftOut = [];
  for (const source of given) {
    if (!ZIP.test(source.name)) {
      sources.push(source);
      continue;
    }
    try {
      sources.push(...(await opened(source)));
    } catch (error) {
      leftOut.push({ path: source.path, reason: error.message });
    }
  }
  const kept = sources.filter((source) => {
    const reason = reasonAgainst(source);
    if (reason) leftOut.push({ path: source.path, reason });
    return reason === null;
  });
  if (kept.some(({ inside }) => inside)) kept.sort((a, b) => ORDER.compare(a.path, b.path));
  return { sources: kept, leftOut: leftOut.filter(({ path }) => !CLUTTER.test(path)) };
}

function reasonAgainst({ path, name, inside, size }) {
  if (inside && CLUTTER.test(path)) return "A file of the operating system.";
  if (inside && INDEX.test(path)) return "The index of a medium, not a slice.";
  if (inside && ZIP.test(name)) return "A zip within a zip is not opened: unpack it first.";
  if (inside && size === 0) return "An empty file.";
  return null;
}

/** Return whether a source begins as DICOM files do. */
export async function looksLikeDicom(source) {
  try {
    const head = await source.head(DICOM_AT + 4);
    return (await head.slice(DICOM_AT).text()) === "DICM";
  } catch {
    return false;
  }
}

/** Return the folder of a path, or "". */
export function folderOf(path) {
  return path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
}

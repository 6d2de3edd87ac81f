// Reading zips in the browser, a member at a time: the archive is never unpacked as a whole.
// Layout: PKWARE's APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16.

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const END_BYTES = 22;
const LOCAL_BYTES = 30;
const COMMENT_BYTES = 65535; // the longest comment after the end record
const STORED = 0;
const DEFLATED = 8;
const MAX_MEMBERS = 10_000;

async function view(blob) {
  return new DataView(await blob.arrayBuffer());
}

async function endRecord(file) {
  const start = Math.max(0, file.size - END_BYTES - COMMENT_BYTES);
  const tail = await view(file.slice(start));
  for (let at = tail.byteLength - END_BYTES; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) !== END) continue;
    const [members, bytes, from] = [
      tail.getUint16(at + 10, true), tail.getUint32(at + 12, true), tail.getUint32(at + 16, true),
    ];
    if (members === 0xffff || from === 0xffffffff) break; // zip64: over 65,534 members or 4 GB
    return { members, bytes, from };
  }
  throw new Error("This zip is damaged, cut short or too large to be opened here.");
}

function nameOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes); // an old zip's code page is not stored
  }
}

/**
 * Return the members of a zip as {name, size, read, head}; `read()` resolves to a Blob of the
 * content, `head(n)` to one of its first n bytes, without unpacking the rest.
 *
 * Throws an Error whose message is for people, if the zip cannot be read or has too many members.
 */
export async function membersOf(file) {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser cannot open zips: unpack it and drop the folder.");
  }
  const { members, bytes, from } = await endRecord(file);
  if (members > MAX_MEMBERS) {
    throw new Error(`This zip has ${members} members; at most ${MAX_MEMBERS} are opened.`);
  }
  const table = await view(file.slice(from, from + bytes));
  const found = [];
  let at = 0;
  for (let i = 0; i < members; i += 1) {
    if (at + 46 > table.byteLength || table.getUint32(at, true) !== ENTRY) {
      throw new Error("This zip is damaged: its list of members ends too early.");
    }
    const [nameBytes, extraBytes, commentBytes] = [28, 30, 32].map((o) => table.getUint16(at + o, true));
    const name = nameOf(new Uint8Array(table.buffer, at + 46, nameBytes));
    found.push(member(file, name, {
      encrypted: table.getUint16(at + 8, true) & 1,
      method: table.getUint16(at + 10, true),
      packed: table.getUint32(at + 20, true),
      size: table.getUint32(at + 24, true),
      local: table.getUint32(at + 42, true),
    }));
    at += 46 + nameBytes + extraBytes + commentBytes;
  }
  return found.filter(({ name }) => !name.endsWith("/"));
}

function member(file, name, entry) {
  const head = (most) => content(file, entry, most);
  return { name, size: entry.size, read: () => content(file, entry), head };
}

async function content(file, { encrypted, method, packed, size, local }, most = Infinity) {
  if (encrypted) throw new Error("This member of the zip is protected by a password.");
  if (method !== STORED && method !== DEFLATED) {
    throw new Error("This member of the zip is packed in a way that browsers do not read.");
  }
  const head = await view(file.slice(local, local + LOCAL_BYTES));
  if (head.byteLength < LOCAL_BYTES || head.getUint32(0, true) !== LOCAL) {
    throw new Error("This zip is damaged: a member is not where its list says.");
  }
  const start = local + LOCAL_BYTES + head.getUint16(26, true) + head.getUint16(28, true);
  const bytes = file.slice(start, start + packed);
  if (method === STORED) return bytes.slice(0, most);
  return inflated(bytes, size, most);
}

// A member that unpacks to more than it declares is a bomb: no more than that is held.
async function inflated(bytes, size, most) {
  const reader = bytes.stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const parts = [];
  let held = 0;
  try {
    for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
      held += value.length;
      if (held > size) break;
      parts.push(value);
      if (held >= most) {
        reader.cancel().catch(() => {});
        return new Blob(parts).slice(0, most);
      }
    }
  } catch {
    held = -1; // not a deflate stream
  }
  if (held !== size) {
    reader.cancel().catch(() => {});
    throw new Error("This member of the zip is damaged: it is not as long as the zip says.");
  }
  return new Blob(parts);
}

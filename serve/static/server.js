// Talking to the server: the API key, patience when it is busy, and the sentence in an error.

import { $ } from "./dom.js";

const KEY_NAME = "chest-ct-key";
const BUSY_TRIES = 8;
let keyInMemory = null; // for browsers that refuse storage: the key lives as long as the page
let asking = null; // the dialogue's promise, so that several requests ask for one key

function storedKey() {
  try {
    return sessionStorage.getItem(KEY_NAME) ?? keyInMemory;
  } catch {
    return keyInMemory;
  }
}

function storeKey(key) {
  keyInMemory = key;
  try {
    sessionStorage.setItem(KEY_NAME, key);
  } catch {
    // keyInMemory has it
  }
}

/** Resolve after some seconds; reject as soon as the signal aborts. */
function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

function send(path, options, key) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key) headers["X-API-Key"] = key;
  return fetch(path, { ...options, headers, credentials: "omit" });
}

async function askOnce(path, options) {
  const key = storedKey();
  const response = await send(path, options, key);
  $("change-key").hidden = !key && response.status !== 401;
  $("key-missing").hidden = response.status !== 401;
  return response;
}

// Return "" if the server takes the key, else why it is not kept.
async function wrongWith(key) {
  if (!key || !/^[\x21-\x7e]+$/.test(key)) return "A key is letters, digits and signs, without spaces.";
  try {
    const response = await send("model", {}, key);
    if (response.status === 401) return "The server does not know this key.";
    return response.ok ? "" : `The key could not be checked: the server answered ${response.status}.`;
  } catch {
    return "The key could not be checked: the server cannot be reached.";
  }
}

/** Ask for a key in a dialogue, and keep it once the server takes it; resolves to whether it did. */
export function askForKey(wrong) {
  asking ??= openDialogue(wrong).finally(() => (asking = null));
  return asking;
}

function openDialogue(wrong) {
  const dialog = $("key-dialog");
  $("key-wrong").textContent = wrong ? "The server no longer knows the key that was given." : "";
  $("key").value = "";
  if (!dialog.open) dialog.showModal();
  $("key").focus();
  return new Promise((resolve) => {
    let taken = false;
    $("key-form").onsubmit = async (event) => {
      event.preventDefault();
      const key = $("key").value.trim();
      $("key-use").disabled = true;
      const problem = await wrongWith(key);
      $("key-use").disabled = false;
      if (!dialog.open) return;
      if (problem) {
        $("key-wrong").textContent = problem;
        $("key").select();
        return;
      }
      storeKey(key);
      taken = true;
      dialog.close();
    };
    dialog.onclose = () => {
      $("key").value = "";
      resolve(taken);
    };
  });
}

/** Fetch a path of this server, asking for an API key as often as it wants another one. */
export async function ask(path, options = {}) {
  let response = await askOnce(path, options);
  while (response.status === 401) {
    if (!(await askForKey(storedKey() !== null))) return response;
    response = await askOnce(path, options);
  }
  return response;
}

/** Fetch a path, waiting as often as a busy server asks for it. */
export async function askPatiently(path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    const response = await ask(path, options);
    if (response.status !== 503 || tries === BUSY_TRIES) return response;
    await pause(Number(response.headers.get("Retry-After")) || 1, options.signal);
  }
}

/** Return the sentence of an error answer. */
export async function sentenceFrom(response) {
  const otherwise = `The server answered ${response.status}.`;
  try {
    return (await response.json()).message || otherwise;
  } catch {
    return otherwise;
  }
}

$("key-later").addEventListener("click", () => $("key-dialog").close());

// Talking to the server: the API key, and the sentence in an error answer.

const KEY_NAME = "chest-ct-key";
const $ = (id) => document.getElementById(id);
let keyInMemory = null; // for browsers that refuse storage: the key lives as long as the page

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

/** Ask for a key in a dialog; resolves to whether one was given. */
export function askForKey(wrong) {
  const dialog = $("key-dialog");
  $("key-wrong").textContent = wrong ? "The server does not know this key." : "";
  $("key").value = "";
  if (!dialog.open) dialog.showModal();
  $("key").focus();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const key = dialog.returnValue === "use" ? $("key").value.trim() : "";
      $("key").value = "";
      dialog.returnValue = "";
      if (key) storeKey(key);
      resolve(Boolean(key));
    };
  });
}

async function askOnce(path, options) {
  const headers = { Accept: "application/json" };
  const key = storedKey();
  if (key) headers["X-API-Key"] = key;
  const response = await fetch(path, { ...options, headers, credentials: "omit" });
  $("change-key").hidden = !key && response.status !== 401;
  return response;
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

/** Return the sentence of an error answer. */
export async function sentenceFrom(response) {
  const otherwise = `The server answered ${response.status}.`;
  try {
    return (await response.json()).message || otherwise;
  } catch {
    return otherwise;
  }
}

$("key-form").addEventListener("submit", () => ($("key-dialog").returnValue = "use"));
$("key-later").addEventListener("click", () => $("key-dialog").close(""));

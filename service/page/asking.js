// What every question on the page needs: elements, the line of messages, the key, a request.

let guarded = false; // whether the server asks for a key

export const $ = (id) => document.getElementById(id);

export function make(name, text = "") {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

export function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

// The key is kept in the page alone: it is gone with the tab.
export function headers() {
  const key = $("key").value.trim();
  return key ? { "X-API-Key": key } : {};
}

export function askForKey() {
  guarded = true;
  $("key-row").hidden = false;
  $("model").textContent = "This server asks for an API key.";
}

export const asksForKey = () => guarded;

export const counted = (labels) => `${labels.length} ${labels.length === 1 ? "label" : "labels"}`;

/** Send a clip with labels and other fields to one of the addresses. */
export function post(address, { file, labels }, fields = {}, { accept = "application/json", signal } = {}) {
  const form = new FormData();
  form.append("labels", JSON.stringify(labels));
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("video", file, "clip");
  return fetch(address, { method: "POST", body: form, headers: { ...headers(), Accept: accept }, signal });
}

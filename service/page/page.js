import { asCurl, asPython } from "./calls.js";
import { drawFrames } from "./film.js";
import { earlier, forget, keep } from "./history.js";
import { labelsOf } from "./lists.js";

const SUGGESTED = 6;
const MOST_TO_FETCH = 5000;
const SHOWN = 50;
const LARGEST_LIST = 4 << 20;

const $ = (id) => document.getElementById(id);
let guarded = false; // whether the server asks for a key
let drawing = new AbortController();
let asked = null; // the last question of this page, while its answer stands there

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

function make(name, text = "") {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

// The key is kept in the page alone: it is gone with the tab.
function headers() {
  const key = $("key").value.trim();
  return key ? { "X-API-Key": key } : {};
}

function askForKey() {
  guarded = true;
  $("key-row").hidden = false;
  $("model").textContent = "This server asks for an API key.";
}

async function describeModel() {
  const response = await fetch("model", { headers: headers() });
  if (response.status === 401) {
    askForKey();
    return;
  }
  if (response.status === 503) {
    setTimeout(describeModel, 1000);
    return;
  }
  const model = await response.json();
  const warnings = model.warnings.length ? ` · ${model.warnings.join("; ")}` : "";
  $("model").textContent = `${model.name} · ${model.runtime} · ${model.precision}${warnings}`;
  await suggestLabels();
}

// A few labels that the bundle knows, far apart in its list, for whoever has not written any.
async function suggestLabels() {
  const stored = await (await fetch("labels", { headers: headers() })).json();
  const list = stored.find((one) => one.count <= MOST_TO_FETCH);
  if (!list || $("labels").value) return;
  const address = `labels/${encodeURIComponent(list.name)}`;
  const { labels } = await (await fetch(address, { headers: headers() })).json();
  const step = Math.max(1, Math.floor(labels.length / SUGGESTED));
  const some = labels.filter((_, i) => i % step === 0).slice(0, SUGGESTED);
  if (!$("labels").value) $("labels").value = some.join("\n");
}

// An answer is that of the clip and labels above it: it goes before another is asked for.
function clear() {
  drawing.abort();
  asked = null;
  $("answer").hidden = true;
  say("");
}

function preview(file) {
  clear();
  const video = $("preview");
  URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(file);
  video.hidden = false;
  video.play().catch(() => {});
  video.onerror = () => { video.hidden = true; };
  $("drop-text").textContent = file.name;
}

async function readList(file) {
  try {
    if (file.size > LARGEST_LIST) throw new Error("the file is too large for a list of labels");
    $("labels").value = labelsOf(await file.text()).join("\n");
    say("");
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

function bar({ label, score }) {
  const row = make("li");
  const length = make("progress");
  length.value = score;
  row.append(length, make("span", label), make("span", `${(100 * score).toFixed(1)} %`));
  return row;
}

function frame(time, i, address) {
  const row = make("li");
  const picture = make("img");
  picture.alt = `frame ${i + 1}, at ${time.toFixed(2)} seconds`;
  picture.hidden = !address;
  if (address) picture.src = address;
  row.append(picture, make("span", `${time.toFixed(2)} s`));
  return row;
}

// An entry is an answer with what was asked: all that the page needs to show it again.
function show(entry) {
  const { name, labels, answer } = entry;
  const { video } = answer;
  $("asked").textContent = `${name} · ${labels.length} ${labels.length === 1 ? "label" : "labels"}`;
  $("results").replaceChildren(...answer.predictions.map(bar));
  $("facts").textContent =
    `${video.codec} ${video.width}×${video.height}, ${video.frame_times_s.length} frames · ` +
    `${answer.timing_ms.total.toFixed(0)} ms`;
  $("frames").replaceChildren(...video.frame_times_s.map((time, i) => frame(time, i, entry.frames[i])));
  $("curl").textContent = asCurl(name, labels, guarded);
  $("python").textContent = asPython(name, labels, guarded);
  $("why").hidden = !asked;
  explain(answer.explanation);
  $("answer").hidden = false;
  say(answer.warnings.join("; "));
}

// Under each frame: how much the best logit falls without it. What speaks against it is negative.
function explain(found) {
  $("because").hidden = !found;
  if (!found) return;
  for (const [i, { change }] of found.frames.entries()) {
    const row = $("frames").children[i];
    row.append(make("output", `${change < 0 ? "−" : "+"}${Math.abs(change).toFixed(2)}`));
  }
  const { label, score } = found.reversed;
  $("because").textContent =
    `Under each frame: how much the logit of “${found.label}” falls without it. ` +
    `Backwards the answer is “${label}”, ${(100 * score).toFixed(1)} %.`;
}

async function askWhy() {
  const { entry, file } = asked;
  $("why").disabled = true;
  try {
    const response = await post(entry.labels, file, { explain: "frames" });
    const answer = await response.json();
    if (asked?.entry !== entry) return; // another question since
    if (response.ok) {
      entry.answer.explanation = answer.explanation;
      explain(answer.explanation);
      $("why").hidden = true;
    } else say(answer.detail, true);
  } catch {
    say("The server cannot be reached.", true);
  } finally {
    $("why").disabled = false;
  }
}

function post(labels, file, fields = {}) {
  const form = new FormData();
  form.append("labels", JSON.stringify(labels));
  for (const [name, value] of Object.entries(fields)) form.append(name, value);
  form.append("video", file, "clip");
  return fetch("classify", { method: "POST", body: form, headers: headers() });
}

async function drawFilm(entry, file) {
  const { signal } = (drawing = new AbortController());
  const place = (i, address) => {
    entry.frames[i] = address;
    const picture = $("frames").children[i].querySelector("img");
    picture.src = address;
    picture.hidden = false;
  };
  await drawFrames(file, entry.answer.video.frame_times_s, place, signal);
  if (!signal.aborted) keep(entry);
}

function listEarlier() {
  const entries = earlier();
  $("earlier").hidden = !entries.length;
  $("history").replaceChildren(...entries.map((entry) => {
    const best = entry.answer.predictions[0];
    const again = make("button");
    again.type = "button";
    again.append(
      make("span", entry.name),
      make("span", `${best.label}, ${(100 * best.score).toFixed(1)} %`),
      make("time", new Date(entry.asked).toLocaleTimeString()),
    );
    again.addEventListener("click", () => {
      clear();
      $("labels").value = entry.labels.join("\n");
      show(entry);
      $("answer").scrollIntoView({ block: "nearest" });
    });
    const row = make("li");
    row.append(again);
    return row;
  }));
}

async function classify(event) {
  event.preventDefault();
  clear();
  const file = $("video").files[0];
  if (!file) {
    say("Choose a clip first.", true);
    return;
  }
  const labels = $("labels").value.split("\n").map((line) => line.trim()).filter(Boolean);
  $("go").disabled = true;
  say("Looking …");
  try {
    const response = await post(labels, file);
    const answer = await response.json();
    if (response.status === 401) askForKey();
    if (response.ok) {
      answer.predictions = answer.predictions.slice(0, SHOWN);
      const entry = { asked: Date.now(), name: file.name, labels, answer, frames: [] };
      asked = { entry, file };
      show(entry);
      keep(entry);
      listEarlier();
      drawFilm(entry, file);
    } else say(answer.detail, true);
  } catch {
    say("The server cannot be reached.", true);
  } finally {
    $("go").disabled = false;
  }
}

$("form").addEventListener("submit", classify);
$("why").addEventListener("click", askWhy);
$("key").addEventListener("change", describeModel);
$("video").addEventListener("change", () => {
  if ($("video").files[0]) preview($("video").files[0]);
});
$("list").addEventListener("change", () => {
  if ($("list").files[0]) readList($("list").files[0]);
  $("list").value = ""; // the same file may be read again
});
$("forget").addEventListener("click", () => {
  drawing.abort(); // which would keep its answer
  forget();
  listEarlier();
});
for (const copy of document.querySelectorAll("[data-copy]")) {
  copy.addEventListener("click", async () => {
    const text = $(copy.dataset.copy);
    // Away from HTTPS and localhost there is no clipboard: what is to be copied is marked.
    getSelection().selectAllChildren(text);
    await navigator.clipboard?.writeText(text.textContent).catch(() => {});
  });
}
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", over);
    if (name === "drop" && event.dataTransfer.files[0]) {
      $("video").files = event.dataTransfer.files;
      preview(event.dataTransfer.files[0]);
    }
  });
}
listEarlier();
describeModel();

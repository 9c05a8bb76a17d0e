"use strict";

const SUGGESTED = 6;
const MOST_TO_FETCH = 5000;

const $ = (id) => document.getElementById(id);

function say(text, isError = false) {
  $("message").textContent = text;
  $("message").classList.toggle("error", isError);
}

// The key is kept in the page alone: it is gone with the tab.
function headers() {
  const key = $("key").value.trim();
  return key ? { "X-API-Key": key } : {};
}

function askForKey() {
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
  $("results").replaceChildren();
  $("facts").textContent = "";
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

function show(answer) {
  const rows = answer.predictions.slice(0, 50).map((prediction) => {
    const row = document.createElement("li");
    const bar = document.createElement("progress");
    bar.value = prediction.score;
    const label = document.createElement("span");
    label.textContent = prediction.label;
    const score = document.createElement("span");
    score.textContent = `${(100 * prediction.score).toFixed(1)} %`;
    row.append(bar, label, score);
    return row;
  });
  $("results").replaceChildren(...rows);
  const { video, timing_ms: timing } = answer;
  $("facts").textContent =
    `${video.codec} ${video.width}×${video.height}, ${video.frame_times_s.length} frames · ` +
    `${timing.total.toFixed(0)} ms`;
  say(answer.warnings.join("; "));
}

async function classify(event) {
  event.preventDefault();
  clear();
  const file = $("video").files[0];
  if (!file) {
    say("Choose a clip first.", true);
    return;
  }
  const form = new FormData();
  const labels = $("labels").value.split("\n").map((line) => line.trim()).filter(Boolean);
  form.append("labels", JSON.stringify(labels));
  form.append("video", file, "clip");
  $("go").disabled = true;
  say("Looking …");
  try {
    const response = await fetch("classify", { method: "POST", body: form, headers: headers() });
    const answer = await response.json();
    if (response.status === 401) askForKey();
    if (response.ok) show(answer);
    else say(answer.detail, true);
  } catch {
    say("The server cannot be reached.", true);
  } finally {
    $("go").disabled = false;
  }
}

$("form").addEventListener("submit", classify);
$("key").addEventListener("change", describeModel);
$("video").addEventListener("change", () => {
  if ($("video").files[0]) preview($("video").files[0]);
});
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
describeModel();

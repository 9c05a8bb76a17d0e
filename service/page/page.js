import { askWhy, classify, clearAnswer, forgetAll, listEarlier, show } from "./answer.js";
import { $, askForKey, headers, say } from "./asking.js";
import { labelsOf } from "./lists.js";
import { clearTimeline, drawTimeline, isFollowing, stopTimeline } from "./timeline.js";

const SUGGESTED = 6;
const MOST_TO_FETCH = 5000;
const LARGEST_LIST = 4 << 20;

let described = false; // a key that changes does not take back what the user chose

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
  if (!described) $("gaps").checked = Boolean(model.calibration); // without it few labels are likelier than none
  described = true;
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
  clearAnswer();
  clearTimeline();
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

// What is asked about; nothing without a clip.
function question() {
  clear();
  const file = $("video").files[0];
  if (!file) {
    say("Choose a clip first.", true);
    return null;
  }
  say("Looking …");
  const labels = $("labels").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { file, labels };
}

function showAgain(entry) {
  clear();
  $("labels").value = entry.labels.join("\n");
  show(entry);
  $("answer").scrollIntoView({ block: "nearest" });
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const asked = question();
  if (asked) classify(asked, () => listEarlier(showAgain));
});
$("when").addEventListener("click", () => {
  if (isFollowing()) {
    stopTimeline();
    say("Stopped.");
    return;
  }
  const asked = question();
  if (asked) drawTimeline(asked, $("preview").src);
});
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
  forgetAll();
  listEarlier(showAgain);
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
listEarlier(showAgain);
describeModel();

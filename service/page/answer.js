// The labels of a clip, ranked: bars, the frames that were looked at, why, and earlier answers.

import { $, askForKey, asksForKey, counted, make, post, say } from "./asking.js";
import { asCurl, asPython } from "./calls.js";
import { drawFrames } from "./film.js";
import { earlier, forget, keep } from "./history.js";

const SHOWN = 50;

let drawing = new AbortController();
let asked = null; // the last question of this page, while its answer stands there

export function clearAnswer() {
  drawing.abort();
  asked = null;
  $("answer").hidden = true;
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
export function show(entry) {
  const { name, labels, answer } = entry;
  const { video } = answer;
  $("asked").textContent = `${name} · ${counted(labels)}`;
  $("results").replaceChildren(...answer.predictions.map(bar));
  $("facts").textContent =
    `${video.codec} ${video.width}×${video.height}, ${video.frame_times_s.length} frames · ` +
    `${answer.timing_ms.total.toFixed(0)} ms`;
  $("frames").replaceChildren(...video.frame_times_s.map((time, i) => frame(time, i, entry.frames[i])));
  $("curl").textContent = asCurl(name, labels, asksForKey());
  $("python").textContent = asPython(name, labels, asksForKey());
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

export async function askWhy() {
  const { entry, question } = asked;
  $("why").disabled = true;
  try {
    const response = await post("classify", question, { explain: "frames" });
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

/** List the answers that the tab keeps; `choose` is called with the one that is to be shown. */
export function listEarlier(choose) {
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
    again.addEventListener("click", () => choose(entry));
    const row = make("li");
    row.append(again);
    return row;
  }));
}

export function forgetAll() {
  drawing.abort(); // which would keep its answer
  forget();
}

/** Ask, and show the answer; `kept` is called once it is among the earlier ones. */
export async function classify(question, kept) {
  $("go").disabled = true;
  try {
    const response = await post("classify", question);
    const answer = await response.json();
    if (response.status === 401) askForKey();
    if (response.ok) {
      const { file, labels } = question;
      answer.predictions = answer.predictions.slice(0, SHOWN);
      const entry = { asked: Date.now(), name: file.name, labels, answer, frames: [] };
      asked = { entry, question };
      show(entry);
      keep(entry);
      kept();
      drawFilm(entry, file);
    } else say(answer.detail, true);
  } catch {
    say("The server cannot be reached.", true);
  } finally {
    $("go").disabled = false;
  }
}

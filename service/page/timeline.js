// When each label holds in a video: asked window by window, drawn under a player of the user's file.

import { $, askForKey, asksForKey, counted, post, say } from "./asking.js";
import { Bands, scoresPerWindow } from "./bands.js";
import { asCurl } from "./calls.js";

const START = "Draw a timeline";

let following = null; // of the question whose windows still come
let warnings = [];

const bands = new Bands($("bands"), (seconds) => {
  $("player").currentTime = seconds;
  bands.at(seconds);
});
$("player").addEventListener("timeupdate", () => bands.at($("player").currentTime));
$("player").addEventListener("error", () => { $("player").hidden = true; });

/** The objects of a body of JSON lines, each as soon as it is there. */
async function* jsonLines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (begun + value).split("\n");
    begun = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

/** End what is under way, which ends the server's work; what is drawn stays. */
export function stopTimeline() {
  following?.abort();
  following = null;
  $("when").textContent = START;
  $("done").hidden = true;
}

export function clearTimeline() {
  stopTimeline();
  $("timeline").hidden = true;
  $("player").pause();
  $("player").removeAttribute("src");
  $("player").load(); // without it the file before goes on
}

export const isFollowing = () => following !== null;

/** Ask, and draw the answer as it comes. */
export async function drawTimeline(question, address) {
  const asked = (following = new AbortController());
  $("when").textContent = "Stop";
  try {
    const { signal } = asked;
    const windows = fields();
    const wanted = { ...windows, top_k: scoresPerWindow(question.labels) };
    const response = await post("timeline", question, wanted, { accept: "application/x-ndjson", signal });
    if (response.status === 401) askForKey();
    if (!response.ok) {
      say((await response.json()).detail, true);
      return;
    }
    let last;
    for await (const line of jsonLines(response.body)) show((last = line.kind), line, { ...question, address, windows });
    if (last !== "end" && last !== "problem") say("The answer broke off.", true);
  } catch {
    if (!asked.signal.aborted) say("The server cannot be reached.", true);
  } finally {
    if (following === asked) stopTimeline();
  }
}

function fields() {
  const [window, stride] = [$("window").value, $("stride").value];
  return {
    ...(window && { window_s: window }),
    ...(stride && { stride_s: stride }),
    ...($("gaps").checked && { open_set: "true" }),
  };
}

function show(kind, line, asked) {
  if (kind === "facts") begin(line, asked);
  else if (kind === "window") {
    bands.window(line);
    $("done").value = bands.windows;
  } else if (kind === "end") {
    bands.end(line.segments);
    if (!line.segments.length) say(["None of the labels is likely enough anywhere", ...warnings].join("; "));
  } else say(line.detail, true);
}

function begin(facts, { file, labels, address, windows }) {
  $("looked").textContent =
    `${file.name} · ${counted(labels)} · ${facts.windows} × ${facts.window_s} s, every ${facts.stride_s} s`;
  $("player").hidden = false;
  $("player").src = address;
  $("done").max = facts.windows;
  $("done").value = 0;
  $("done").hidden = false;
  $("timeline-curl").textContent = asCurl(file.name, labels, asksForKey(), {
    to: "timeline", accept: "text/vtt", fields: windows,
  });
  bands.begin(facts, labels);
  $("timeline").hidden = false;
  warnings = facts.warnings;
  say(warnings.join("; "));
}

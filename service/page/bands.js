// Which label holds when: a band for each under the player, filled as windows come.

const ALL_SCORED = 10; // labels; of more, each window has only its best
const BEST = 5;
const LIKELY = 0.1; // from here one of many labels gets a band
const BANDS = 50;
const COLUMNS = 1200; // of a band's picture

/** How many of the best labels a window must have for the bands. */
export function scoresPerWindow(labels) {
  return labels.length <= ALL_SCORED ? Math.max(labels.length, 1) : BEST;
}

function clock(seconds) {
  const tenths = Math.round(10 * seconds);
  const minutes = Math.floor(tenths / 600);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** The bands in a list element; `seek` is called with seconds. */
export class Bands {
  constructor(list, seek) {
    this.list = list;
    this.seek = seek;
  }

  /** Take the first line: how long the video is, and how many windows there will be. */
  begin(facts, labels) {
    this.facts = facts;
    this.bands = new Map();
    this.shownToS = null;
    this.windows = 0;
    this.list.replaceChildren();
    if (labels.length <= ALL_SCORED) labels.forEach((label, i) => this.band(i, label));
  }

  /** Take a window: a shade in each band, for the time that is nearest to it. */
  window({ start_s, end_s, predictions, none_of_these }) {
    this.windows += 1;
    const middle = (start_s + end_s) / 2;
    const half = Math.min(this.facts.stride_s, end_s - start_s) / 2;
    const fromS = Math.max(start_s, this.shownToS ?? start_s);
    const toS = this.windows === this.facts.windows ? end_s : middle + half;
    this.shownToS = toS;
    for (const { label, index, score, probability } of predictions) {
      const share = probability ?? score;
      const known = this.bands.has(index) || (share >= LIKELY && this.bands.size < BANDS);
      if (known) this.shade(this.band(index, label), fromS, toS, share);
    }
    if (none_of_these !== undefined) this.shade(this.band("none", "none of these"), fromS, toS, none_of_these);
  }

  /** Take the segments: bars, which lead to their beginning. */
  end(segments) {
    for (const { label, index, start_s, end_s, score } of segments) {
      const said = `${clock(start_s)} – ${clock(end_s)}, ${(100 * score).toFixed(0)} %`;
      const bar = element("button", "segment");
      bar.type = "button";
      bar.title = said;
      bar.setAttribute("aria-label", `${label}: ${said}`);
      bar.style.left = `${100 * this.share(start_s)}%`;
      bar.style.width = `${100 * (this.share(end_s) - this.share(start_s))}%`;
      bar.addEventListener("click", (event) => {
        event.stopPropagation();
        this.seek(start_s);
      });
      this.band(index, label).append(bar);
    }
  }

  /** Show where the player is. */
  at(seconds) {
    if (this.facts) this.list.style.setProperty("--at", this.share(seconds));
  }

  share(seconds) {
    return Math.min(1, seconds / (this.facts.video.duration_s || 1));
  }

  // By the place of its label in the question, or "none".
  band(key, label) {
    if (!this.bands.has(key)) {
      const row = element("li", key === "none" ? key : "");
      const band = element("div", "band");
      const picture = element("canvas", "");
      picture.width = COLUMNS;
      picture.height = 1;
      band.append(picture);
      band.addEventListener("click", ({ clientX }) => {
        const { left, width } = band.getBoundingClientRect();
        this.seek(((clientX - left) / width) * this.facts.video.duration_s);
      });
      const name = element("span", "name", label);
      name.dir = "auto";
      row.append(name, band);
      this.bands.set(key, band);
      this.list.append(row);
    }
    return this.bands.get(key);
  }

  shade(band, fromS, toS, share) {
    const canvas = band.firstElementChild.getContext("2d");
    const [from, to] = [fromS, toS].map((seconds) => Math.round(COLUMNS * this.share(seconds)));
    canvas.fillStyle = getComputedStyle(band).color;
    canvas.globalAlpha = share;
    canvas.fillRect(from, 0, Math.max(to - from, 1), 1);
  }
}

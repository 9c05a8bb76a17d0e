// The last answers, kept in the tab: they outlive a reload, not the tab.

const PLACE = "answers";
const KEPT = 10;

export function earlier() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE)) ?? [];
  } catch {
    return [];
  }
}

/** Put an answer first, in the place of what is known of it; the oldest go where room ends. */
export function keep(entry) {
  const entries = [entry, ...earlier().filter((other) => other.asked !== entry.asked)].slice(0, KEPT);
  while (entries.length) {
    try {
      sessionStorage.setItem(PLACE, JSON.stringify(entries));
      return;
    } catch {
      entries.pop();
    }
  }
}

export function forget() {
  sessionStorage.removeItem(PLACE);
}

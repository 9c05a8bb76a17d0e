// Lists of labels in files: one a line, or a table with a column `name`.

/** Fields of the rows of a CSV text. */
function* rows(text) {
  const field = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/gy;
  let row = [];
  while (field.lastIndex < text.length) {
    const match = field.exec(text);
    if (!match) throw new Error("a quote in the table is not closed");
    row.push(match[1] === undefined ? match[2] : match[1].replaceAll('""', '"'));
    if (match[3] !== ",") {
      yield row;
      row = [];
    }
  }
  if (row.length) yield [...row, ""];
}

/** The labels of a file's text; an Error says why there are none. */
export function labelsOf(text) {
  const [first] = text.split(/\r?\n/, 1);
  const column = first.toLowerCase().split(",").map((name) => name.trim()).indexOf("name");
  const found = column < 0 ? text.split(/\r?\n/) : [...rows(text)].slice(1).map((row) => row[column] ?? "");
  const labels = found.map((label) => label.trim()).filter(Boolean);
  if (!labels.length) throw new Error("the file holds no label: write one a line");
  return labels;
}

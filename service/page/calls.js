// The question on the page, as others would ask it.

const address = (path) => new URL(path, document.baseURI).href;
const shell = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

/** The command; `guarded` where the server asks for a key. */
export function asCurl(name, labels, guarded, { to = "classify", accept, fields = {} } = {}) {
  // In curl's own quotes: the name may hold what separates its options.
  const file = name.replaceAll("\\", "\\\\").replaceAll('"', '\\"');
  return [
    `curl ${shell(address(to))}`,
    ...(accept ? [`-H ${shell(`Accept: ${accept}`)}`] : []),
    ...(guarded ? ['-H "X-API-Key: $XCLIP_API_KEY"'] : []),
    `-F ${shell(`video=@"${file}"`)}`,
    `--form-string ${shell(`labels=${JSON.stringify(labels)}`)}`,
    ...Object.entries(fields).map(([key, value]) => `--form-string ${shell(`${key}=${value}`)}`),
  ].join(" \\\n  ");
}

/** The program; a text of JSON is a text of Python as well. */
export function asPython(name, labels, guarded) {
  const key = guarded ? ', api_key=os.environ["XCLIP_API_KEY"]' : "";
  return [
    ...(guarded ? ["import os", ""] : []),
    "from xclip_serve import Client",
    "",
    `with Client(${JSON.stringify(address("."))}${key}) as server:`,
    `    answer = server.classify(${JSON.stringify(name)}, ${JSON.stringify(labels)})`,
    "for prediction in answer.predictions:",
    '    print(f"{prediction.score:.3f} {prediction.label}")',
    "",
  ].join("\n");
}

// Reads JSON as text, so that numbers and strings stay unchanged. JSON.parse would round 12345678901234567890.

const SPACE = " \t\r\n";
const MARKS = "[]{},:";

// [from, to] of each token of a JSON text.
function* tokens(text) {
  for (let at = 0; at < text.length; ) {
    const char = text[at];
    let end = at + 1;
    if (char === '"') end = endOfString(text, at);
    else if (!SPACE.includes(char) && !MARKS.includes(char)) {
      while (end < text.length && !SPACE.includes(text[end]) && !MARKS.includes(text[end])) end += 1;
    }
    if (!SPACE.includes(char)) yield [at, end];
    at = end;
  }
}

function endOfString(text, at) {
  for (let end = text.indexOf('"', at + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text[end - 1 - slashes] === "\\") slashes += 1;
    if (slashes % 2 === 0) return end + 1;
  }
  return text.length;
}

// [name, text] of each member of an object, or item of a list.
function* children(text) {
  let depth = 0;
  let name = null;
  let from = -1;
  let to = -1;
  for (const [at, end] of tokens(text)) {
    const char = text[at];
    if (char === "}" || char === "]") depth -= 1;
    if (from >= 0 && (depth === 0 || (depth === 1 && char === ","))) {
      yield [name, text.slice(from, to)];
      [name, from] = [null, -1];
    } else if (depth === 1 && char === ":") {
      [name, from] = [JSON.parse(text.slice(from, to)), -1];
    } else if (depth === 1) {
      if (from < 0) from = at;
      to = end;
    }
    if (char === "{" || char === "[") depth += 1;
    if (depth === 0) return;
  }
}

export function member(text, wanted) {
  for (const [name, value] of children(text)) if (name === wanted) return value;
  return undefined;
}

export const items = (text) => Array.from(children(text), ([, value]) => value);

export function oneLine(text) {
  return /[\r\n]/.test(text) ? Array.from(tokens(text), ([at, end]) => text.slice(at, end)).join("") : text;
}

export function pretty(text) {
  let out = "";
  let depth = 0;
  let opened = false;
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [at, end] of tokens(text)) {
    const char = text[at];
    if (char === "}" || char === "]") {
      depth -= 1;
      out += opened ? char : line() + char;
      opened = false;
      continue;
    }
    if (opened) out += line();
    opened = char === "{" || char === "[";
    if (opened) depth += 1;
    out += char === "," ? `,${line()}` : char === ":" ? ": " : text.slice(at, end);
  }
  return out;
}

// Returns why a text is not valid JSON, as one line. Empty if it is valid.
export function fault(text) {
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    const at = /position (\d+)/.exec(error.message);
    if (!at) return error.message;
    const before = text.slice(0, Number(at[1])).split("\n");
    return `Line ${before.length}, column ${before.at(-1).length + 1}: ${error.message}`;
  }
}

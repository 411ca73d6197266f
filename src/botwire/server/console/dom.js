// Creates elements. Children are nodes or text. Text is never parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child != null && child !== false));
  return element;
}

export function button(text, onclick, attributes = {}) {
  return h("button", { type: "button", onclick, ...attributes }, text);
}

// `beside`: a second control after the first, with a label of its own.
export function field(label, control, hint, beside) {
  control.id ||= `field-${(fields += 1)}`;
  const about = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), beside ? h("div", { class: "filter" }, control, beside) : control, about);
}
let fields = 0;

// Announce a text to screen readers.
export function say(text) {
  document.getElementById("said").textContent = text;
}

export function problem(error) {
  return h("p", { class: "problem", role: "alert" }, h("strong", {}, error.title || "The action failed."), " ", error.message);
}

// `question`: a text, or several paragraphs.
export async function confirmed(question, action) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "question" },
    h("div", { id: "question" }, [question].flat().map((text) => h("p", {}, text))),
    h(
      "form",
      { method: "dialog", class: "row end" },
      h("button", { value: "no" }, "Cancel"),
      h("button", { value: "yes", class: "danger" }, action),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.remove();
  return dialog.returnValue === "yes";
}

// Ask for values in a dialog. `submit` gets the fields by name; it may fail, and then the dialog shows why. Returns whether it was done.
export async function fillIn(title, fields, action, submit, kind = "primary") {
  const place = h("div", {});
  const form = h(
    "form",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          await submit(Object.fromEntries(new FormData(form)));
          dialog.close("done");
        } catch (error) {
          place.replaceChildren(problem(error));
        }
      },
    },
    fields,
    place,
    h("div", { class: "row end" }, button("Cancel", () => dialog.close()), h("button", { class: kind }, action)),
  );
  const dialog = h("dialog", { "aria-labelledby": "asked", class: "wide" }, h("h2", { id: "asked" }, title), form);
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.remove();
  return dialog.returnValue === "done";
}

// Times and sizes

const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const BOTH = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const UTC = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZone: "UTC", timeZoneName: "short" });
const FORMATS = { clock: CLOCK, both: BOTH, utc: UTC };

export const dayOf = (when) => DAY.format(new Date(when));

export function time(when, format = "both") {
  const date = new Date(when);
  return h("time", { datetime: date.toISOString(), title: when }, FORMATS[format].format(date));
}

export const number = (count) => count.toLocaleString();

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; count >= 1000 && unit < units.length - 1; unit += 1) count /= 1000;
  return `${count.toLocaleString(undefined, { maximumFractionDigits: unit ? 1 : 0 })} ${units[unit]}`;
}

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export function download(parts, name, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

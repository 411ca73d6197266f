// Lists the namespaces of the token and recently opened ones, and opens any namespace by its name.

import { namespaces } from "./api.js";
import { field, h } from "./dom.js";
import { Pager } from "./pager.js";
import { link } from "./routes.js";

const KEPT = "botwire.namespaces";
const MOST = 12;

export function remember(name) {
  const others = recent().filter((other) => other !== name);
  localStorage.setItem(KEPT, JSON.stringify([name, ...others].slice(0, MOST)));
}

function recent() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)).map(String);
  } catch {
    return [];
  }
}

export class Namespaces {
  constructor({ me, signal }) {
    const name = h("input", { type: "text", required: true, maxlength: "128", autocomplete: "off", spellcheck: "false" });
    const open = h(
      "form",
      {
        class: "panel",
        onsubmit: (event) => {
          event.preventDefault();
          location.hash = link(["n", name.value]);
        },
      },
      field("Open a namespace", name),
      h("button", { class: "primary" }, "Open"),
    );
    const exact = (me.token?.namespaces || []).filter((item) => !item.endsWith("*"));
    const patterns = (me.token?.namespaces || []).filter((item) => item.endsWith("*"));
    this.element = h(
      "section",
      { class: "page" },
      h("h1", {}, "Namespaces"),
      open,
      me.operator && h("h2", {}, "On this server"),
      me.operator && this.everything(signal),
      exact.length > 0 && listed("Namespaces of your token", exact),
      !me.operator && patterns.length > 0 && h("p", { class: "muted" }, `Your token gives access to every namespace that matches ${patterns.join(", ")}.`),
      !me.operator && listed("Recently opened", recent().filter((item) => !exact.includes(item))),
      !me.operator && h("p", { class: "muted" }, "To list all namespaces, ", h("a", { href: link(["access"]) }, "sign in with an operator's token"), "."),
    );
  }

  everything(signal) {
    const pager = new Pager({
      load: async (after) => {
        const page = await namespaces(after, 100, signal);
        return { rows: page.namespaces, next: page.next };
      },
      render: row,
      empty: "No namespaces yet. The first write creates one.",
      label: "Namespaces",
    });
    pager.refresh();
    return h("div", { class: "panel flush" }, pager.element);
  }
}

const row = (name) => h("a", { href: link(["n", name]) }, h("bdi", {}, name));

function listed(heading, names) {
  if (!names.length) return null;
  return [
    h("h2", {}, heading),
    h("div", { class: "panel flush" }, h("ul", { class: "list", "aria-label": heading }, names.map((name) => h("li", {}, row(name))))),
  ];
}

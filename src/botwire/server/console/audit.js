// The audit log. For operators.

import { audit } from "./api.js";
import { h, time } from "./dom.js";
import { Pager } from "./pager.js";

export class Audit {
  constructor({ signal }) {
    const pager = new Pager({
      load: async (after) => {
        const page = await audit(after, 50, signal);
        return { rows: page.messages, next: page.next };
      },
      render: ({ created_at, data: { act, by, ...facts } }) =>
        h(
          "div",
          { class: "act" },
          h("div", { class: "row" }, h("strong", {}, act), by && h("span", {}, `by ${by}`), h("span", { class: "grow" }), h("small", { class: "muted" }, time(created_at))),
          h("small", { class: "muted" }, h("bdi", {}, Object.entries(facts).map(([name, value]) => `${name}: ${[value].flat().join(", ")}`).join(" · "))),
        ),
      empty: "No entries.",
      label: "Audit log",
    });
    pager.list.tabIndex = 0; // it has no links, so the keyboard needs another way to scroll it
    this.element = h("section", { class: "page" }, h("h1", {}, "Audit"), h("div", { class: "panel flush" }, pager.element));
    pager.refresh();
  }
}

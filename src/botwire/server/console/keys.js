// The keys of a namespace, and the selected one.

import { countKeys, keys } from "./api.js";
import { button, field, h, plural } from "./dom.js";
import { Creator, Editor } from "./editor.js";
import { Pager } from "./pager.js";
import { link } from "./routes.js";

const PAGE = 100;
const COUNT = 3_000; // counting a million keys is slow

export class Keys {
  constructor({ namespace, signal }) {
    Object.assign(this, { namespace, signal });
    this.prefix = h("input", { type: "search", autocomplete: "off", spellcheck: "false", oninput: () => this.narrow() });
    this.count = h("p", { class: "muted count", role: "status" });
    this.pager = new Pager({
      load: async (after) => {
        const page = await keys(namespace, { prefix: this.prefix.value, after, limit: PAGE }, signal);
        return { rows: page.keys, next: page.next };
      },
      render: (key) => h("a", { href: link(["n", namespace, "keys", key]) }, h("bdi", {}, key)),
      empty: "No keys.",
      label: "Keys",
    });
    this.detail = h("section", { class: "detail", "aria-label": "Entry" });
    this.element = h(
      "div",
      { class: "panes" },
      h(
        "section",
        { class: "master", "aria-label": "Keys" },
        field("Key prefix", this.prefix),
        h("div", { class: "row" }, this.count, h("span", { class: "grow" }), h("a", { class: "button", href: link(["n", namespace, "keys"], { new: "key" }) }, "New key")),
        this.pager.element,
      ),
      this.detail,
    );
    this.refresh(true);
  }

  async show(key, query) {
    this.editor?.close();
    this.editor = null;
    this.key = key;
    this.pager.mark(key === undefined ? "" : link(["n", this.namespace, "keys", key]));
    if (query.has("new")) {
      const creator = new Creator({ namespace: this.namespace });
      this.detail.replaceChildren(creator.element);
      creator.key.focus();
      return;
    }
    if (key === undefined) {
      this.detail.replaceChildren(h("p", { class: "empty" }, "Select a key to see its value."));
      return;
    }
    this.editor = new Editor({ namespace: this.namespace, key, signal: this.signal, written: () => this.refresh() });
    this.detail.replaceChildren(this.editor.element);
    await this.editor.load();
  }

  changed() {
    this.refresh();
    this.editor?.changed();
  }

  narrow() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(true), 200);
  }

  async refresh(restart = false) {
    await (restart ? this.pager.restart() : this.pager.refresh());
    if (this.key !== undefined) this.pager.mark(link(["n", this.namespace, "keys", this.key]));
    if (restart) await this.recount();
    else this.counting ??= setTimeout(() => this.recount(), COUNT);
  }

  async recount() {
    clearTimeout(this.counting);
    this.counting = null;
    try {
      this.count.textContent = plural(await countKeys(this.namespace, this.prefix.value, this.signal), "key");
    } catch {
      this.count.textContent = ""; // the list shows the error
    }
  }
}

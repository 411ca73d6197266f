// Search messages and keys.

import { search } from "./api.js";
import { field, h, plural, problem, time } from "./dom.js";
import { here, link } from "./routes.js";

const MOST = 50;

export class Search {
  constructor({ namespace, me, signal }) {
    Object.assign(this, { namespace, signal });
    this.words = h("input", { type: "search", required: true, autocomplete: "off" });
    this.kind = h("select", {}, h("option", { value: "" }, "Messages and keys"), h("option", { value: "messages" }, "Messages"), h("option", { value: "entries" }, "Keys"));
    const ways = me.embedder ? { both: "Words and meaning", words: "Words", meaning: "Meaning" } : { words: "Words" };
    this.by = h("select", {}, Object.entries(ways).map(([value, name]) => h("option", { value }, name)));
    this.found = h("div");
    const form = h(
      "form",
      {
        role: "search",
        class: "panel",
        onsubmit: (event) => {
          event.preventDefault();
          const place = link(["n", namespace, "search"], { q: this.words.value, kind: this.kind.value, by: me.embedder ? this.by.value : "" });
          if (location.hash === place) this.show(undefined, here().query);
          else location.hash = place;
        },
      },
      field("Question or words", this.words),
      field("In", this.kind),
      me.embedder && field("By", this.by),
      h("button", { class: "primary" }, "Search"),
    );
    this.element = h("section", { class: "page" }, h("h2", { class: "unseen" }, "Search"), form, this.found);
  }

  async show(_, query) {
    this.words.value = query.get("q") || "";
    this.kind.value = query.get("kind") || "";
    this.by.value = query.get("by") || this.by.options[0].value;
    if (!this.words.value) {
      this.found.replaceChildren();
      this.words.focus();
      return;
    }
    try {
      const { hits } = await search(this.namespace, { q: this.words.value, kind: this.kind.value, by: this.by.value, limit: MOST, neighbours: 0 }, this.signal);
      this.found.replaceChildren(
        h("p", { class: "muted", role: "status" }, hits.length ? plural(hits.length, "hit") + (hits.length === MOST ? " or more" : "") : "No results."),
        h("ol", { class: "hits" }, hits.map((hit) => h("li", {}, this.hit(hit)))),
      );
    } catch (error) {
      if (error.name !== "AbortError") this.found.replaceChildren(problem(error));
    }
  }

  hit({ entry, message, session, snippet }) {
    const place = entry
      ? h("a", { href: link(["n", this.namespace, "keys", entry.key]) }, h("bdi", {}, entry.key))
      : h("a", { href: link(["n", this.namespace, "sessions", session], { at: message.seq }) }, h("bdi", {}, session), ` #${message.seq}`);
    return h(
      "article",
      { class: "panel" },
      h("div", { class: "row" }, h("span", { class: "kind" }, entry ? "Key" : "Message"), place, h("span", { class: "grow" }), h("small", { class: "muted" }, time(entry ? entry.updated_at : message.created_at))),
      h("p", { dir: "auto" }, this.marked(snippet)),
    );
  }

  // Highlights words that begin like a word of the query, because the search compares word stems.
  marked(snippet) {
    const words = new Set(this.words.value.toLowerCase().match(/[\p{L}\p{N}]{3,}/gu) || []);
    return snippet.split(/([\p{L}\p{N}]+)/u).map((piece) => {
      const plain = piece.toLowerCase();
      const isAsked = plain.length > 2 && [...words].some((word) => plain.startsWith(word) || (word.length > 4 && plain.startsWith(word.slice(0, -2))));
      return isAsked ? h("mark", {}, piece) : piece;
    });
  }
}

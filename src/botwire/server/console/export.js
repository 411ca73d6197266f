// A namespace as a file of JSON Lines, a page at a time.

import { ask } from "./api.js";
import { button, download, h, number, say } from "./dom.js";
import { items, member } from "./json.js";

const PAGE = 1_000;

export class Exporting {
  constructor(namespace, signal) {
    Object.assign(this, { namespace, signal });
    this.button = button("Export", () => this.run(), { class: "quiet" });
    this.told = h("span", { class: "muted", role: "status" });
    this.element = h("div", { class: "row exporting" }, this.told, this.button);
  }

  async run() {
    this.button.disabled = true;
    this.count = 0;
    const parts = [];
    try {
      for await (const lines of this.lines()) {
        parts.push(new Blob([lines.map((line) => `${line}\n`).join("")])); // which a browser may keep on disk
        this.count += lines.length;
        this.told.textContent = `${number(this.count)} …`;
      }
      download(parts, `${this.namespace}.jsonl`, "application/x-ndjson");
      this.told.textContent = "";
      say(`${number(this.count)} lines were exported.`);
    } catch (error) {
      if (error.name !== "AbortError") this.told.textContent = error.message;
    }
    this.button.disabled = false;
  }

  async *lines() {
    const name = encodeURIComponent(this.namespace);
    yield* this.pages(`memory/${name}`, { values: true }, "entries", "after", (text) => `{"entry": ${text}}`);
    for await (const sessions of this.pages(`sessions/${name}`, {}, "sessions", "before", (text) => text)) {
      for (const { session } of sessions.map((text) => JSON.parse(text))) {
        const quoted = JSON.stringify(session);
        yield* this.pages(`sessions/${name}`, { session }, "messages", "after", (text) => `{"session": ${quoted}, "message": ${text}}`);
      }
    }
  }

  async *pages(path, query, what, cursor, line) {
    for (let next; next !== null; ) {
      const text = await ask("GET", path, { query: { ...query, [cursor]: next, limit: PAGE }, signal: this.signal });
      const page = items(member(text, what));
      if (page.length) yield page.map(line);
      next = JSON.parse(member(text, "next"));
    }
  }
}

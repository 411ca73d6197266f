// Exports a namespace as JSON Lines, like `botwire export`, page by page.

import { ask } from "./api.js";
import { button, download, h, number, say } from "./dom.js";
import { items, member, oneLine } from "./json.js";

const PAGE = 1_000;

export class Exporting {
  constructor(namespace, signal) {
    Object.assign(this, { namespace, signal });
    this.button = button("Export", () => this.run(), { class: "quiet" });
    this.status = h("span", { class: "muted", role: "status" });
    this.element = h("div", { class: "row exporting" }, this.status, this.button);
  }

  async run() {
    this.button.disabled = true;
    this.count = 0;
    const parts = [];
    try {
      for await (const lines of this.lines()) {
        parts.push(new Blob([lines.map((line) => `${line}\n`).join("")])); // the browser may store it on disk
        this.count += lines.length;
        this.status.textContent = `${number(this.count)} …`;
      }
      download(parts, `${this.namespace}.jsonl`, "application/x-ndjson");
      this.status.textContent = "";
      say(`${number(this.count)} lines exported.`);
    } catch (error) {
      if (error.name !== "AbortError") this.status.textContent = error.message;
    }
    this.button.disabled = false;
  }

  // The first line names the format; the last line marks the end.
  async *lines() {
    const name = encodeURIComponent(this.namespace);
    yield [JSON.stringify({ format: "botwire", version: 1, namespace: this.namespace })];
    yield* this.pages(`memory/${name}`, { values: true }, "entries", "after", oneLine);
    const names = [];
    for await (const page of this.pages(`sessions/${name}`, { order: "created" }, "sessions", "after", (text) => JSON.parse(text).session)) names.push(...page);
    for (const session of names.reverse()) {
      const begin = `{"session": ${JSON.stringify(session)}, `;
      yield* this.pages(`sessions/${name}`, { session }, "messages", "after", (text) => begin + oneLine(text).slice(1));
    }
    yield ['{"end": true}'];
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

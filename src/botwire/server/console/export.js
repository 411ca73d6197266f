// Exports a namespace as JSON Lines, like `botwire export`, page by page.

import { ask, summary } from "./api.js";
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

  // The first line names the format; the last line marks the end. After the messages of a session comes a line with all else it has.
  async *lines() {
    const name = encodeURIComponent(this.namespace);
    yield [JSON.stringify({ format: "botwire", version: 2, namespace: this.namespace })];
    const { rules } = JSON.parse(await ask("GET", `retention/${name}`, { signal: this.signal }));
    yield rules.map(({ prefix, idle, age }) => JSON.stringify({ retain: prefix, idle, age }));
    yield* this.pages(`memory/${name}`, { values: true }, "entries", "after", oneLine);
    const rows = [];
    for await (const page of this.pages(`sessions/${name}`, { order: "created" }, "sessions", "after", oneLine)) rows.push(...page);
    for (const row of rows.reverse()) {
      const { session, summarized } = JSON.parse(row);
      const begin = `{"session": ${JSON.stringify(session)}, `;
      let covered;
      for await (const page of this.pages(`sessions/${name}`, { session }, "messages", "after", oneLine)) {
        covered ??= summarized ? page.map((text) => JSON.parse(text)).find((message) => message.seq === summarized) : undefined;
        yield page.map((text) => begin + text.slice(1));
      }
      yield await this.rest(row, covered);
    }
    yield ['{"end": true}'];
  }

  // The line of a session, if its messages do not say it all.
  async rest(row, covered) {
    const { session, about, origin, expires_at, messages } = JSON.parse(row);
    const known = member(row, "about");
    const parts = ["title", "data"].map((name) => [name, member(known, name)]).filter(([, text]) => text && text !== "null");
    const stored = about.encrypted === undefined ? parts.map(([name, text]) => `"${name}": ${text}`).join(", ") : "";
    const given = { owner: about.owner, tags: about.tags.length ? about.tags : null, origin: origin && [origin.session, origin.seq], expires_at };
    const line = Object.entries(given).flatMap(([name, value]) => (value == null ? [] : [`"${name}": ${JSON.stringify(value)}`]));
    if (stored) line.push(`"about": {${stored}}`);
    if (about.encrypted !== undefined) line.push(`"about": ${JSON.stringify(about.encrypted)}`);
    if (covered) {
      const text = oneLine(await summary(this.namespace, session, this.signal));
      if (text !== "null") line.push(`"summarized": ${covered.seq}, "summarized_id": ${JSON.stringify(covered.id)}, "summary": ${text}`);
    }
    return line.length || !messages ? [`{${[`"session": ${JSON.stringify(session)}`, ...line].join(", ")}}`] : [];
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

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

  // `botwire.migrate.lines` describes the lines.
  async *lines() {
    const name = encodeURIComponent(this.namespace);
    yield [JSON.stringify({ format: "botwire", version: 2, namespace: this.namespace })];
    const rules = JSON.parse(await this.ask(`retention/${name}`)).rules;
    if (rules.length) yield rules.map(({ prefix, idle, age }) => JSON.stringify({ retain: prefix, idle, age }));
    yield* this.pages(`memory/${name}`, { values: true }, "entries", "after", oneLine);
    const names = [];
    for await (const page of this.pages(`sessions/${name}`, { order: "created" }, "sessions", "after", (text) => JSON.parse(text).session)) names.push(...page);
    for (const session of names.reverse()) yield* this.session(`sessions/${name}`, session);
    yield ['{"end": true}'];
  }

  // Its messages, and then all else, if there is anything.
  async *session(path, session) {
    const begun = await this.known(path, session);
    if (!begun) return;
    const expires = member(begun, "expires_at");
    const begin = `{"session": ${JSON.stringify(session)}, ${expires === "null" ? "" : `"expires_at": ${expires}, `}`;
    yield* this.pages(path, { session }, "messages", "after", (text) => begin + oneLine(text).slice(1));
    const known = await this.known(path, session);
    const line = known && { ...this.about(known), ...(await this.summary(path, session, known)) };
    if (!line || (!Object.keys(line).length && Number(member(known, "messages")))) return;
    const members = Object.entries({ session: JSON.stringify(session), ...line }).map(([key, text]) => `"${key}": ${oneLine(text)}`);
    yield [`{${members.join(", ")}}`];
  }

  async known(path, session) {
    try {
      return await this.ask(path, { session, about: true });
    } catch (error) {
      if (error.status === 404) return null; // it was deleted since, or has expired
      throw error;
    }
  }

  // What is known about a session, as texts of JSON.
  about(session) {
    const about = member(session, "about");
    const found = { owner: member(about, "owner"), tags: member(about, "tags"), expires_at: member(session, "expires_at") };
    const parts = ["title", "data"].flatMap((key) => (member(about, key) === undefined ? [] : [`"${key}": ${member(about, key)}`]));
    const stored = member(about, "encrypted") ?? (parts.length ? `{${parts.join(", ")}}` : null);
    const origin = JSON.parse(member(session, "origin"));
    if (origin) found.origin = JSON.stringify([origin.session, origin.seq]);
    if (stored) found.about = stored;
    return Object.fromEntries(Object.entries(found).filter(([, text]) => text && text !== "null" && text !== "[]"));
  }

  async summary(path, session, known) {
    if (!Number(member(known, "summarized"))) return {};
    const context = await this.ask(path, { session, context: true, last: 1 });
    const upto = Number(member(context, "summarized"));
    const [last] = upto ? items(member(await this.ask(path, { session, after: upto - 1, limit: 1 }), "messages")) : [];
    return last ? { summarized: String(upto), summarized_id: member(last, "id"), summary: member(context, "summary") } : {};
  }

  ask(path, query = {}) {
    return ask("GET", path, { query, signal: this.signal });
  }

  async *pages(path, query, what, cursor, line) {
    for (let next; next !== null; ) {
      const text = await this.ask(path, { ...query, [cursor]: next, limit: PAGE });
      const page = items(member(text, what));
      if (page.length) yield page.map(line);
      next = JSON.parse(member(text, "next"));
    }
  }
}

// The sessions of a namespace, and the open conversation.

import { forget, messages, sessions, write } from "./api.js";
import { Conversation, titleOf } from "./conversation.js";
import { button, confirmed, h, number, plural, problem, say, time } from "./dom.js";
import { Feed } from "./feed.js";
import { gist } from "./messages.js";
import { Pager } from "./pager.js";
import { link } from "./routes.js";

const PAGE = 50;
const WAIT = 200; // while the user types
const FILTERS = {
  Name: (text) => ({ prefix: text }),
  Owner: (text) => ({ where: JSON.stringify({ owner: text }) }),
  Tag: (text) => ({ tag: text }),
};

export class Sessions {
  constructor({ namespace, signal }) {
    Object.assign(this, { namespace, signal });
    this.pager = new Pager({
      load: async (after) => {
        const page = await sessions(namespace, { after, limit: PAGE, preview: true, ...this.filter() }, signal);
        return { rows: page.sessions, next: page.next };
      },
      render: (row) =>
        h(
          "a",
          { href: link(["n", namespace, "sessions", row.session]) },
          h("bdi", {}, titleOf(row)),
          row.preview && h("small", { class: "preview", dir: "auto" }, gist(row.preview.data)),
          h("small", {}, plural(row.messages, "message"), ", ", time(row.updated_at)),
        ),
      empty: "No sessions.",
      label: "Sessions",
    });
    this.text = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter the sessions", oninput: () => this.restart() });
    this.by = h(
      "select",
      { "aria-label": "Filter by", onchange: () => this.restart() },
      Object.keys(FILTERS).map((name) => h("option", {}, name)),
    );
    this.detail = h("section", { class: "detail", "aria-label": "Conversation" });
    this.element = h("div", { class: "panes" }, h("section", { class: "master", "aria-label": "Sessions" }, h("div", { class: "filter" }, this.text, this.by), this.pager.element), this.detail);
    this.refresh();
  }

  filter() {
    return this.text.value ? FILTERS[this.by.value](this.text.value) : {};
  }

  restart() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.pager.restart().then(() => this.mark()), WAIT);
  }

  async show(session, query) {
    const at = Number(query.get("at")) || 0;
    this.session = session;
    this.feed = this.talk = null;
    this.mark();
    if (session === undefined) {
      this.detail.replaceChildren(h("p", { class: "empty" }, "Select a session to read it."));
      return;
    }
    const talk = new Conversation({ namespace: this.namespace, session, signal: this.signal, changed: () => this.changed() });
    this.talk = talk;
    const feed = new Feed({
      load: (asked) => messages(this.namespace, session, asked, this.signal),
      render: (message, previous) => talk.render(message, previous),
      label: `Messages of ${session}`,
    });
    this.feed = feed;
    const count = h("span", { class: "muted" });
    feed.counted = (total) => (count.textContent = plural(total, "message"));
    this.detail.replaceChildren(
      h(
        "div",
        { class: "row talk" },
        h("a", { class: "back", href: link(["n", this.namespace, "sessions"]) }, "← Sessions"),
        talk.heading,
        count,
        h("span", { class: "grow" }),
        talk.buttons,
        button("Delete", () => this.forget(session), { class: "danger" }),
      ),
      talk.element,
      feed.element,
    );
    try {
      await Promise.all([feed.open(at), talk.refresh().then((version) => (talk.version = version))]);
    } catch (error) {
      if (error.name !== "AbortError" && this.feed === feed) this.detail.append(problem(error));
    }
  }

  async forget(session) {
    const count = number(this.feed.total);
    if (!(await confirmed(`Delete the session ${session} of ${this.namespace} with its ${count} messages? This cannot be undone.`, "Delete"))) return;
    try {
      await write(this.namespace, forget(session));
      location.hash = link(["n", this.namespace, "sessions"]);
      say("Deleted.");
      await this.refresh();
    } catch (error) {
      this.detail.append(problem(error));
    }
  }

  async changed() {
    const { talk, feed } = this;
    this.refresh();
    if (!feed) return;
    try {
      const version = await talk.refresh();
      // A version changes with everything but an append.
      if (version === talk.version) await feed.changed();
      else await feed.reload();
      talk.version = version;
    } catch {
      // the connection state is shown above
    }
  }

  async refresh() {
    await this.pager.refresh();
    this.mark();
  }

  mark() {
    this.pager.mark(this.session === undefined ? "" : link(["n", this.namespace, "sessions", this.session]));
  }
}

// The sessions of a namespace, and the open conversation.

import { forget, messages, sessions, write } from "./api.js";
import { button, confirmed, h, number, plural, problem, say, time } from "./dom.js";
import { Feed } from "./feed.js";
import { bubble } from "./messages.js";
import { Pager } from "./pager.js";
import { link } from "./routes.js";

const PAGE = 50;

export class Sessions {
  constructor({ namespace, signal }) {
    Object.assign(this, { namespace, signal });
    this.pager = new Pager({
      load: async (after) => {
        const page = await sessions(namespace, { after, limit: PAGE }, signal);
        return { rows: page.sessions, next: page.next };
      },
      render: (row) =>
        h(
          "a",
          { href: link(["n", namespace, "sessions", row.session]) },
          h("bdi", {}, row.session),
          h("small", {}, plural(row.messages, "message"), ", ", time(row.updated_at)),
        ),
      empty: "No sessions.",
      label: "Sessions",
    });
    this.detail = h("section", { class: "detail", "aria-label": "Conversation" });
    this.element = h("div", { class: "panes" }, h("section", { class: "master", "aria-label": "Sessions" }, this.pager.element), this.detail);
    this.refresh();
  }

  async show(session, query) {
    const at = Number(query.get("at")) || 0;
    this.session = session;
    this.feed = null;
    this.mark();
    if (session === undefined) {
      this.detail.replaceChildren(h("p", { class: "empty" }, "Select a session to read it."));
      return;
    }
    const feed = new Feed({
      load: (asked) => messages(this.namespace, session, asked, this.signal),
      render: bubble,
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
        h("h2", {}, h("bdi", {}, session)),
        count,
        h("span", { class: "grow" }),
        button("Delete", () => this.forget(session), { class: "danger" }),
      ),
      feed.element,
    );
    try {
      await feed.open(at);
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

  changed() {
    this.refresh();
    this.feed?.changed().catch(() => {}); // the connection state is shown above
  }

  async refresh() {
    await this.pager.refresh();
    this.mark();
  }

  mark() {
    this.pager.mark(this.session === undefined ? "" : link(["n", this.namespace, "sessions", this.session]));
  }
}

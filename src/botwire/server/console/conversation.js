// What is known about a conversation, and what can be done with it: its title, forks, edits and its summary.

import { edit, fork, session as info, setAbout, setExpiry, summary, versionOf, write } from "./api.js";
import { button, field, fillIn, h, number, problem, say, time } from "./dom.js";
import { durationField, secondsIn } from "./durations.js";
import { check } from "./health.js";
import { pretty } from "./json.js";
import { bubble } from "./messages.js";
import { link } from "./routes.js";

export const titleOf = (row) => row.about.title || row.session;

export class Conversation {
  constructor({ namespace, session, signal, changed }) {
    Object.assign(this, { namespace, session, signal, changed });
    this.heading = h("h2", {}, h("bdi", {}, session));
    this.buttons = h(
      "span",
      { class: "row" },
      button("Edit title", () => this.name(), { class: "quiet" }),
      button("Fork", () => this.fork(), { class: "quiet" }),
      button("Expiry", () => this.expire(), { class: "quiet" }),
      button("Check", () => this.check(), { class: "quiet" }),
    );
    this.facts = h("p", { class: "facts", hidden: true });
    this.summary = h("div", { class: "summary", hidden: true });
    this.summarized = 0;
    this.health = h("div", { class: "health", hidden: true });
    this.element = h("div", {}, this.facts, this.health, this.summary);
  }

  // Load what is known. Returns the version of the session; undefined if it does not exist.
  async refresh() {
    try {
      this.info = await info(this.namespace, this.session, this.signal);
    } catch (error) {
      if (error.status !== 404) throw error;
      this.info = undefined;
    }
    this.show();
    return this.info?.version;
  }

  show() {
    const row = this.info;
    this.heading.replaceChildren(h("bdi", {}, row ? titleOf(row) : this.session));
    const facts = row
      ? [
          row.about.title && h("span", {}, "Session ", h("bdi", {}, row.session)),
          row.about.owner && h("span", {}, "Owner ", h("bdi", {}, row.about.owner)),
          row.about.tags.length > 0 && h("span", {}, "Tags ", h("bdi", {}, row.about.tags.join(", "))),
          row.origin && h("span", {}, "Forked from ", this.origin(row.origin)),
          row.expires_at && h("span", {}, "Expires ", time(row.expires_at)),
        ].filter(Boolean)
      : [];
    this.facts.replaceChildren(...facts);
    this.facts.hidden = !facts.length;
    this.showSummary(row?.summarized ?? 0);
  }

  origin({ session, seq }) {
    const href = link(["n", this.namespace, "sessions", session], { at: seq });
    return h("a", { href }, h("bdi", {}, session), ` at #${number(seq)}`);
  }

  showSummary(upto) {
    if (this.summarized === upto) return;
    this.summarized = upto;
    this.summary.hidden = !upto;
    this.summary.replaceChildren();
    if (!upto) return;
    const place = h("div", {});
    const details = h("details", {}, h("summary", {}, `Summary of messages 1 to ${number(upto)}`), place);
    details.addEventListener("toggle", () => this.load(place), { once: true });
    this.summary.replaceChildren(details);
  }

  async load(place) {
    try {
      place.replaceChildren(h("pre", { tabindex: "0" }, pretty(await summary(this.namespace, this.session, this.signal))));
    } catch (error) {
      place.replaceChildren(problem(error));
    }
  }

  // Keeps owner, tags and data, and fails if they changed in the meantime.
  async name() {
    const { title = "", owner = null, tags = [], data = null, version = 0 } = this.info?.about ?? {};
    const input = h("input", { name: "title", value: title ?? "", maxlength: "500" });
    const done = await fillIn("Edit the title", field("Title", input), "Save", ({ title: chosen }) =>
      write(this.namespace, setAbout(this.session, { title: chosen || null, owner, tags, data, if_version: version })),
    );
    if (done) await this.after("Saved.");
  }

  async expire() {
    const expires = this.info?.expires_at;
    const fields = [
      h("p", {}, expires ? ["This session expires at ", time(expires), "."] : "This session has no time of its own to expire.", " A rule of the namespace or its plan may end it earlier."),
      durationField("Expire in", "ttl", "The session is then deleted with its messages. Empty: it never expires by a time of its own."),
    ];
    const done = await fillIn("Expiry of the session", fields, "Save", async (given) => {
      const [exists] = await write(this.namespace, setExpiry(this.session, secondsIn(given, "ttl")));
      if (!exists) throw new Error("The session does not exist any more.");
    });
    if (done) await this.after("Saved.");
  }

  async check() {
    const { namespace, session, signal, health: place } = this;
    try {
      if (await check({ namespace, session, signal, place })) await this.changed();
    } catch (error) {
      if (error.name === "AbortError") return;
      place.replaceChildren(problem(error));
      place.hidden = false;
    }
  }

  async fork(upto) {
    const input = h("input", { name: "target", required: true, value: `${this.session}-fork` });
    const what = upto === undefined ? "all messages" : `the messages up to #${number(upto)}`;
    let target;
    const done = await fillIn(`Copy ${what} into a new session`, field("Name of the new session", input), "Fork", async (given) => {
      target = given.target;
      await write(this.namespace, fork(this.session, target, upto));
    });
    if (!done) return;
    location.hash = link(["n", this.namespace, "sessions", target]);
    say("Forked.");
  }

  render(message, previous) {
    return bubble(message, previous, () => [
      button("Fork", () => this.fork(message.seq), { class: "quiet", "aria-label": `Fork at message ${message.seq}` }),
      button("Edit", () => this.edit(message), { class: "quiet", "aria-label": `Edit message ${message.seq}` }),
    ]);
  }

  async edit(message) {
    const data = h("textarea", { name: "data", rows: "12", spellcheck: "false", required: true }, pretty(message.text));
    const redacted = h("input", { type: "checkbox", name: "redacted", id: "redacted", checked: message.redacted != null });
    const reason = h("input", { name: "reason", value: message.redacted ?? "" });
    const fields = [
      field("Data, as JSON", data),
      h("p", { class: "choice" }, redacted, h("label", { for: "redacted" }, "Mark as redacted")),
      field("Reason of the redaction", reason, "Optional. It is stored with the message."),
    ];
    const done = await fillIn(`Edit message ${number(message.seq)}`, fields, "Save", (given) => {
      JSON.parse(given.data);
      const options = { if_version: versionOf(message), ...("redacted" in given && { redacted: given.reason }) };
      return write(this.namespace, edit(this.session, message.seq, given.data, options));
    });
    if (done) await this.after("Saved.");
  }

  async after(text) {
    say(text);
    await this.changed();
  }
}

// One entry: seen, edited, removed. Nothing is written over a version that its editor has not seen.

import { entry, put, remove, write } from "./api.js";
import { button, bytes, confirmed, download, field, h, problem, say, time } from "./dom.js";
import { fault, pretty } from "./json.js";
import { link } from "./routes.js";

// What was typed and not saved, by namespace and key: it is there again when somebody comes back.
const drafts = new Map();

export class Editor {
  constructor({ namespace, key, signal, written }) {
    Object.assign(this, { namespace, key, written });
    this.closing = new AbortController();
    this.signal = AbortSignal.any([signal, this.closing.signal]);
    this.place = JSON.stringify([namespace, key]);
    this.body = h("div");
    this.element = h(
      "div",
      { class: "entry" },
      h("a", { class: "back", href: link(["n", namespace, "keys"]) }, "← Keys"),
      h("h2", {}, h("bdi", {}, key)),
      this.body,
    );
  }

  close() {
    this.closing.abort();
  }

  async load() {
    try {
      this.base = await entry(this.namespace, this.key, this.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.body.replaceChildren(problem(error));
      return;
    }
    if (!this.base) this.body.replaceChildren(h("p", { class: "empty" }, "There is no such key, or not any more."));
    else if (this.base.text === undefined) this.body.replaceChildren(this.facts(), this.binary());
    else this.body.replaceChildren(this.facts(), this.form());
  }

  facts() {
    const { version, created_at, updated_at, expires_at } = this.base;
    return h(
      "dl",
      { class: "facts" },
      fact("Version", String(version)),
      fact("Created", time(created_at)),
      fact("Written", time(updated_at)),
      fact("Expires", expires_at ? time(expires_at) : "never"),
    );
  }

  binary() {
    const value = Uint8Array.from(atob(this.base.value_base64), (char) => char.charCodeAt(0));
    const start = Array.from(value.subarray(0, 256), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return h(
      "div",
      {},
      h("p", {}, `${bytes(value.length)}, which are not JSON. They may be encrypted. They begin so:`),
      h("pre", { tabindex: "0", class: "wrap" }, start),
      h(
        "div",
        { class: "row" },
        button("Download", () => download([value], "value.bin", "application/octet-stream")),
        h("span", { class: "grow" }),
        button("Delete", () => this.remove(), { class: "danger" }),
      ),
      (this.told = h("div")),
    );
  }

  form() {
    const draft = drafts.get(this.place);
    if (draft) this.base.version = draft.version;
    this.shown = pretty(this.base.text);
    this.text = h("textarea", { spellcheck: "false", autocomplete: "off", wrap: "soft", rows: rowsOf(this.shown), oninput: () => this.typed() });
    this.text.value = draft?.text ?? this.shown;
    this.told = h("div");
    this.save = h("button", { class: "primary" }, "Save");
    this.lifetime = h("input", { type: "number", min: "0", step: "any", placeholder: "as before" });
    const form = h(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          this.store();
        },
        onkeydown: (event) => {
          if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
            event.preventDefault();
            this.store();
          }
        },
      },
      field("Value, as JSON", this.text),
      field("Expires in, in seconds", this.lifetime, "Empty: as before. 0: never."),
      this.told,
      h(
        "div",
        { class: "row" },
        this.save,
        button("Format", () => this.format()),
        h("span", { class: "grow" }),
        button("Delete", () => this.remove(), { class: "danger" }),
      ),
    );
    this.typed();
    return form;
  }

  get dirty() {
    return this.text !== undefined && this.text.value !== this.shown;
  }

  typed() {
    const wrong = fault(this.text.value);
    this.text.setAttribute("aria-invalid", String(wrong !== ""));
    this.save.disabled = wrong !== "";
    this.told.replaceChildren(wrong ? h("p", { class: "problem" }, wrong) : "");
    if (this.dirty) drafts.set(this.place, { text: this.text.value, version: this.base.version });
    else drafts.delete(this.place);
  }

  format() {
    if (!fault(this.text.value)) this.text.value = pretty(this.text.value);
    this.typed();
  }

  async store() {
    if (fault(this.text.value)) return;
    this.save.disabled = true;
    try {
      await write(this.namespace, put(this.key, `"value": ${this.text.value}`, { if_version: this.base.version, ...this.expiry() }));
      drafts.delete(this.place);
      await this.load();
      this.told.replaceChildren(h("p", { class: "good" }, "Saved."));
      say("Saved.");
      this.written();
    } catch (error) {
      this.told.replaceChildren(...(error.code === "conflict" ? await this.conflict() : [problem(error)]));
    }
    this.save.disabled = false;
  }

  expiry() {
    const seconds = this.lifetime.value;
    if (seconds === "") return { keep_ttl: true };
    return Number(seconds) === 0 ? {} : { ttl: Number(seconds) };
  }

  // Somebody else was faster: show both, and let it be decided with open eyes.
  async conflict() {
    const theirs = await entry(this.namespace, this.key, this.signal);
    const text = !theirs ? "It was deleted." : theirs.text === undefined ? "These are bytes now." : pretty(theirs.text);
    return [
      h("p", { class: "problem", role: "alert" }, h("strong", {}, "Changed meanwhile."), " Nothing was saved: somebody else has written this key since you opened it. Theirs is:"),
      h("pre", { tabindex: "0" }, text),
      h(
        "div",
        { class: "row" },
        button("Take theirs", () => {
          drafts.delete(this.place);
          this.load();
        }),
        button("Save mine over it", () => {
          this.base.version = theirs ? theirs.version : 0;
          this.store();
        }, { class: "danger" }),
      ),
    ];
  }

  async remove() {
    if (!(await confirmed(`Delete the key ${this.key}?`, "Delete"))) return;
    try {
      await this.removeSeen();
      drafts.delete(this.place);
      this.written();
      location.hash = link(["n", this.namespace, "keys"]);
      say("Deleted.");
    } catch (error) {
      this.told.replaceChildren(...(error.code === "conflict" ? await this.conflict() : [problem(error)]));
    }
  }

  // A delete has no condition of its own, so it comes with a put that has one. With a quota that is used up only the delete is
  // allowed: then the version is looked at just before.
  async removeSeen() {
    const { text, value_base64, version } = this.base;
    const value = text === undefined ? `"value_base64": ${JSON.stringify(value_base64)}` : `"value": ${text}`;
    try {
      await write(this.namespace, put(this.key, value, { if_version: version }), remove(this.key));
    } catch (error) {
      if (error.status !== 429 && error.status !== 507) throw error;
      const now = await entry(this.namespace, this.key, this.signal);
      if (now?.version !== version) throw Object.assign(new Error(), { code: "conflict" });
      await write(this.namespace, remove(this.key));
    }
  }

  // Something was written in the namespace: show it, unless there is work here that would be lost.
  async changed() {
    if (this.base === undefined && !this.body.childElementCount) return;
    const now = await entry(this.namespace, this.key, this.signal).catch(() => this.base);
    if (now?.version === this.base?.version) return;
    if (!this.dirty) {
      await this.load();
      say("The value has changed.");
    } else if (!this.element.querySelector(".notice")) {
      this.told.append(h("p", { class: "notice", role: "status" }, "Somebody else has written this key since you opened it. When you save you will see both."));
    }
  }
}

export class Creator {
  constructor({ namespace }) {
    this.key = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
    const text = h("textarea", { spellcheck: "false", rows: "8", required: true });
    const told = h("div");
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          const wrong = fault(text.value);
          if (wrong) {
            told.replaceChildren(h("p", { class: "problem", role: "alert" }, wrong));
            return;
          }
          try {
            await write(namespace, put(this.key.value, `"value": ${text.value}`, { if_version: 0 }));
            location.hash = link(["n", namespace, "keys", this.key.value]);
          } catch (error) {
            const exists = Object.assign(new Error("Choose it in the list to change it."), { title: "There is such a key already." });
            told.replaceChildren(problem(error.code === "conflict" ? exists : error));
          }
        },
      },
      field("Key", this.key),
      field("Value, as JSON", text, 'Such as {"theme": "dark"}, [1, 2], "text" or 42.'),
      told,
      h("div", { class: "row" }, h("button", { class: "primary" }, "Create")),
    );
    this.element = h("div", { class: "entry" }, h("a", { class: "back", href: link(["n", namespace, "keys"]) }, "← Keys"), h("h2", {}, "New key"), form);
  }
}

const rowsOf = (text) => Math.min(24, Math.max(6, text.split("\n", 30).length + 1));
const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

// Shows, edits and deletes one entry. Never overwrites a version that the user has not seen.

import { entry, put, remove, write } from "./api.js";
import { button, bytes, confirmed, download, field, h, problem, say, time } from "./dom.js";
import { fault, pretty } from "./json.js";
import { link } from "./routes.js";

// Unsaved texts by namespace and key, restored when the user returns.
const drafts = new Map();

export class Editor {
  constructor({ namespace, key, signal, written }) {
    Object.assign(this, { namespace, key, written });
    this.closing = new AbortController();
    this.signal = AbortSignal.any([signal, this.closing.signal]);
    this.draftKey = JSON.stringify([namespace, key]);
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
    if (!this.base) this.body.replaceChildren(h("p", { class: "empty" }, "This key does not exist."));
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
      fact("Updated", time(updated_at)),
      fact("Expires", expires_at ? time(expires_at) : "never"),
    );
  }

  binary() {
    const value = Uint8Array.from(atob(this.base.value_base64), (char) => char.charCodeAt(0));
    const start = Array.from(value.subarray(0, 256), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
    return h(
      "div",
      {},
      h("p", {}, `Binary value, ${bytes(value.length)}. ${value.length > 256 ? "First 256 bytes" : "Content"}:`),
      h("pre", { tabindex: "0", class: "wrap" }, start),
      h(
        "div",
        { class: "row" },
        button("Download", () => download([value], "value.bin", "application/octet-stream")),
        h("span", { class: "grow" }),
        button("Delete", () => this.remove(), { class: "danger" }),
      ),
      (this.status = h("div")),
    );
  }

  form() {
    const draft = drafts.get(this.draftKey);
    if (draft) this.base.version = draft.version;
    this.shown = pretty(this.base.text);
    this.text = h("textarea", { spellcheck: "false", autocomplete: "off", wrap: "soft", rows: rowsOf(this.shown), oninput: () => this.typed() });
    this.text.value = draft?.text ?? this.shown;
    this.status = h("div");
    this.save = h("button", { class: "primary" }, "Save");
    this.lifetime = h("input", { type: "number", min: "0", step: "any", placeholder: "unchanged" });
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
      field("Time to live (seconds)", this.lifetime, "Leave empty to keep the current one. 0 means that the key never expires."),
      this.status,
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
    this.status.replaceChildren(wrong ? h("p", { class: "problem" }, wrong) : "");
    if (this.dirty) drafts.set(this.draftKey, { text: this.text.value, version: this.base.version });
    else drafts.delete(this.draftKey);
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
      drafts.delete(this.draftKey);
      await this.load();
      this.status.replaceChildren(h("p", { class: "good" }, "Saved."));
      say("Saved.");
      this.written();
    } catch (error) {
      this.status.replaceChildren(...(error.code === "conflict" ? await this.conflict() : [problem(error)]));
    }
    this.save.disabled = false;
  }

  expiry() {
    const seconds = this.lifetime.value;
    if (seconds === "") return { keep_ttl: true };
    return Number(seconds) === 0 ? {} : { ttl: Number(seconds) };
  }

  // Another client changed the key: show both values and let the user decide.
  async conflict() {
    const theirs = await entry(this.namespace, this.key, this.signal);
    const text = !theirs ? "(deleted)" : theirs.text === undefined ? "(binary)" : pretty(theirs.text);
    return [
      h("p", { class: "problem", role: "alert" }, h("strong", {}, "Not saved:"), " this key was changed after you opened it. Current value:"),
      h("pre", { tabindex: "0" }, text),
      h(
        "div",
        { class: "row" },
        button("Use the current value", () => {
          drafts.delete(this.draftKey);
          this.load();
        }),
        button("Overwrite with my value", () => {
          this.base.version = theirs ? theirs.version : 0;
          this.store();
        }, { class: "danger" }),
      ),
    ];
  }

  async remove() {
    if (!(await confirmed(`Delete the key ${this.key} from ${this.namespace}?`, "Delete"))) return;
    try {
      await this.removeSeen();
      drafts.delete(this.draftKey);
      this.written();
      location.hash = link(["n", this.namespace, "keys"]);
      say("Deleted.");
    } catch (error) {
      this.status.replaceChildren(...(error.code === "conflict" ? await this.conflict() : [problem(error)]));
    }
  }

  // A delete has no version check, so one write combines it with a put that has one. If the quota is used up, only a delete
  // is allowed. Then the version is checked just before the delete.
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

  // The namespace changed: show the new value, unless the user has unsaved changes.
  async changed() {
    if (this.base === undefined && !this.body.childElementCount) return;
    const now = await entry(this.namespace, this.key, this.signal).catch(() => this.base);
    if (now?.version === this.base?.version) return;
    if (!this.dirty) {
      await this.load();
      say("The value has changed.");
    } else if (!this.element.querySelector(".notice")) {
      this.status.append(h("p", { class: "notice", role: "status" }, "This key was changed after you opened it. Save to compare both values."));
    }
  }
}

export class Creator {
  constructor({ namespace }) {
    this.key = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
    const text = h("textarea", { spellcheck: "false", rows: "8", required: true });
    const status = h("div");
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          const wrong = fault(text.value);
          if (wrong) {
            status.replaceChildren(h("p", { class: "problem", role: "alert" }, wrong));
            return;
          }
          try {
            await write(namespace, put(this.key.value, `"value": ${text.value}`, { if_version: 0 }));
            location.hash = link(["n", namespace, "keys", this.key.value]);
          } catch (error) {
            const exists = Object.assign(new Error("Select it in the list to edit it."), { title: "This key already exists." });
            status.replaceChildren(problem(error.code === "conflict" ? exists : error));
          }
        },
      },
      field("Key", this.key),
      field("Value, as JSON", text, 'For example {"theme": "dark"}, [1, 2], "text" or 42.'),
      status,
      h("div", { class: "row" }, h("button", { class: "primary" }, "Create")),
    );
    this.element = h("div", { class: "entry" }, h("a", { class: "back", href: link(["n", namespace, "keys"]) }, "← Keys"), h("h2", {}, "New key"), form);
  }
}

const rowsOf = (text) => Math.min(24, Math.max(6, text.split("\n", 30).length + 1));
const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));

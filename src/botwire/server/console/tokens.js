// Lists, creates and revokes tokens.

import { createToken, revoke, tokens } from "./api.js";
import { button, confirmed, field, h, problem, say, time } from "./dom.js";

const PERMISSIONS = { read: "Read", write: "Write", admin: "Admin: read, write, create and revoke tokens" };
const EXPIRIES = { "": "Never", 3600: "In an hour", 86400: "In a day", 2592000: "In 30 days", 7776000: "In 90 days", 31536000: "In a year" };

export class Tokens {
  constructor({ me, signal }) {
    Object.assign(this, { me, signal });
    this.list = h("div", { class: "cards" });
    this.status = h("div");
    this.all = h("input", { type: "checkbox", onchange: () => this.refresh() });
    this.all.id = "all-tokens";
    const mayCreate = me.token?.can.includes("admin");
    this.element = h(
      "section",
      { class: "page" },
      h("h1", {}, "Tokens"),
      mayCreate && this.form(),
      this.status,
      h("div", { class: "row" }, h("h2", {}, "Active tokens"), h("span", { class: "grow" }), h("span", { class: "choice" }, this.all, h("label", { for: this.all.id }, "Show expired and revoked"))),
      this.list,
    );
    this.refresh();
  }

  form() {
    const name = h("input", { type: "text", autocomplete: "off", spellcheck: "false" });
    const namespaces = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
    const permissions = Object.entries(PERMISSIONS).map(([value, label]) => [h("input", { type: "checkbox", value, checked: value !== "admin", id: `permission-${value}` }), h("label", { for: `permission-${value}` }, label)]);
    const expires = h("select", {}, Object.entries(EXPIRIES).sort(([a], [b]) => a - b).map(([seconds, label]) => h("option", { value: seconds }, label)));
    const form = h(
      "form",
      {
        onsubmit: async (event) => {
          event.preventDefault();
          try {
            const created = await createToken({
              name: name.value,
              namespaces: namespaces.value.split(",").map((item) => item.trim()).filter(Boolean),
              can: permissions.filter(([box]) => box.checked).map(([box]) => box.value),
              expires_in: expires.value ? Number(expires.value) : null,
            });
            this.status.replaceChildren(newToken(created.secret));
            event.target.reset();
            await this.refresh();
          } catch (error) {
            this.status.replaceChildren(problem(error));
          }
        },
      },
      field("Name", name),
      field("Namespaces", namespaces, "Separate several with commas. support-* matches every namespace that begins with support-. * matches every namespace."),
      h("fieldset", {}, h("legend", {}, "Permissions"), permissions.map((pair) => h("div", { class: "row" }, pair))),
      field("Expires", expires),
      h("button", { class: "primary" }, "Create token"),
    );
    return h("details", { class: "panel" }, h("summary", {}, "New token"), form);
  }

  async refresh() {
    let found;
    try {
      found = (await tokens(null, this.signal)).tokens.reverse();
    } catch (error) {
      if (error.name !== "AbortError") this.list.replaceChildren(problem(error));
      return;
    }
    const now = Date.now() * 1000;
    const live = (token) => !token.revoked && (!token.expires || token.expires > now);
    const shown = this.all.checked ? found : found.filter(live);
    this.list.replaceChildren(...shown.map((token) => this.card(token, live(token))));
    if (!shown.length) this.list.append(h("p", { class: "empty" }, "No tokens."));
  }

  card(token, isLive) {
    const { id, name, namespaces, can, created, expires, revoked, by, claim } = token;
    const end = revoked ? ["Revoked ", time(revoked / 1000)] : expires ? [isLive ? "Expires " : "Expired ", time(expires / 1000)] : ["Never expires"];
    return h(
      "article",
      { class: "panel token", "data-live": String(isLive) },
      h("div", { class: "row" }, h("h3", {}, claim ? "Claim" : h("bdi", {}, name || id)), h("span", { class: "grow" }), isLive && button("Revoke", () => this.revoke(token), { class: "danger" })),
      h("p", {}, h("code", {}, h("bdi", {}, namespaces.join(", "))), ": ", can.join(", ")),
      h("small", { class: "muted" }, `${id}. Created `, time(created / 1000), by && ` by ${by}`, ". ", end, "."),
    );
  }

  async revoke({ id, name, namespaces, claim }) {
    if (!(await confirmed(`Revoke ${name || id} and every token created with it? This takes effect at once.`, "Revoke"))) return;
    try {
      await revoke(id, claim ? namespaces[0] : null);
      this.status.replaceChildren();
      say("Revoked.");
      await this.refresh();
    } catch (error) {
      this.status.replaceChildren(problem(error));
    }
  }
}

function newToken(secret) {
  const shown = h("input", { type: "text", readonly: true, value: secret, class: "secret" });
  return h(
    "div",
    { class: "panel notice", role: "status" },
    field("The new token. It is shown only once: the server stores only its hash.", shown),
    button("Copy", async (event) => {
      shown.select();
      await navigator.clipboard?.writeText(secret);
      event.target.textContent = "Copied";
    }),
  );
}

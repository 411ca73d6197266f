// Sign in with a token, and show its permissions.

import { token } from "./api.js";
import { button, field, h, problem, time } from "./dom.js";

// Whether the token may have the permission to write. The server describes issued tokens only.
export const mayWrite = ({ token: issued }) => !issued || issued.can.some((permission) => permission !== "read");

export class Access {
  constructor({ me, again }) {
    const secret = h("input", { type: "password", autocomplete: "off", spellcheck: "false", required: true });
    const form = h(
      "form",
      {
        class: "panel",
        onsubmit: (event) => {
          event.preventDefault();
          token.set(secret.value.trim());
          again();
        },
      },
      field("Token", secret, "The token is kept in this tab until you close it."),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, token.get() ? "Use this token" : "Sign in"),
        token.get() &&
          button("Sign out", () => {
            token.set("");
            again();
          }),
      ),
    );
    this.element = h(
      "section",
      { class: "page narrow" },
      h("h1", {}, me.refusal && token.get() ? "Token not accepted" : token.get() ? "Signed in" : "Sign in"),
      me.refusal ? problem(me.refusal) : tokenFacts(me),
      form,
      h("p", { class: "muted" }, "To create an operator's token, run this on the server's machine. Add --db if the server was started with it."),
      h("pre", { tabindex: "0" }, "botwire token create --namespace '*' --can admin --expires 12h"),
    );
  }
}

function tokenFacts(me) {
  if (me.token) {
    const { name, id, namespaces, can, expires } = me.token;
    return h(
      "dl",
      { class: "facts" },
      fact("Token", name || id),
      fact("Namespaces", me.operator ? "all on this server" : namespaces.join(", ")),
      fact("Permissions", can.join(", ")),
      fact("Expires", expires ? time(expires / 1000) : "never"),
    );
  }
  if (token.get()) {
    return h("p", {}, "This is a self-generated token. It gives access to the namespaces that were claimed with it.");
  }
  return h(
    "p",
    {},
    me.mode === "open"
      ? "This server is open: without a token you can use every unclaimed namespace."
      : "This server requires a token.",
  );
}

const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

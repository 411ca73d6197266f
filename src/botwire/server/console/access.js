// Sign in with a token, and see what it may do.

import { token } from "./api.js";
import { button, field, h, problem, time } from "./dom.js";

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
      field("Token", secret, "It stays in this tab, and is gone when you close it."),
      h(
        "div",
        { class: "row" },
        h("button", { class: "primary" }, token.get() ? "Take this one instead" : "Sign in"),
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
      h("h1", {}, token.get() ? "Signed in" : "Sign in"),
      me.refusal ? problem(me.refusal) : told(me),
      form,
      h("p", { class: "muted" }, "An operator makes a token at the command line of the server:"),
      h("pre", { tabindex: "0" }, "botwire token create --namespace '*' --can admin --expires 12h"),
    );
  }
}

function told(me) {
  if (me.token) {
    const { name, id, namespaces, can, expires } = me.token;
    return h(
      "dl",
      { class: "facts" },
      fact("Token", name || id),
      fact("For", me.operator ? "the whole server" : namespaces.join(", ")),
      fact("May", can.join(", ")),
      fact("Expires", expires ? time(expires / 1000) : "never"),
    );
  }
  if (token.get()) {
    return h("p", {}, "This token is one of your own making: it counts in the namespaces that were claimed with it.");
  }
  return h(
    "p",
    {},
    me.mode === "open"
      ? "This server is open: without a token you see the namespaces that nobody has claimed."
      : "This server asks everybody for a token.",
  );
}

const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];

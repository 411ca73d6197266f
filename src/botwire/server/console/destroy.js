// Deletes a namespace, after the user has typed its name.

import { destroy } from "./api.js";
import { button, field, fillIn, h, plural, say } from "./dom.js";

export function destroying(namespace) {
  const status = h("div");
  const ask = async () => {
    status.replaceChildren();
    let count;
    const typed = h("input", { name: "typed", required: true, autocomplete: "off", spellcheck: "false" });
    const explained = [
      h("p", {}, "This deletes all keys, sessions, vectors and rules of ", h("strong", {}, h("bdi", {}, namespace)), ". It cannot be undone."),
      field("Type the name of the namespace", typed),
    ];
    const submit = async (given) => {
      if (given.typed !== namespace) throw new Error(`Type “${namespace}” to delete it. Nothing was deleted.`);
      count = await destroy(namespace);
    };
    if (!(await fillIn("Delete the namespace", explained, "Delete", submit, "danger"))) return;
    const text = `The namespace is deleted, with ${plural(count, "key or message", "keys and messages")}.`;
    status.replaceChildren(h("p", { class: "good" }, text));
    say(text);
  };
  return h(
    "div",
    { class: "panel meter" },
    h("h2", {}, "Delete the namespace"),
    h("p", {}, "Deletes all keys, sessions, vectors and rules. The name, the plan, the writes of the day and the version stay, so that limits do not start again."),
    h("p", {}, "Backups and exports keep what they had when they were made."),
    h("div", {}, button("Delete the namespace", ask, { class: "danger" })),
    status,
  );
}

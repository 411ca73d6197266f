// What makes providers refuse a conversation, and its repair.

import { mend, problems } from "./api.js";
import { fillIn, h, number, plural, say } from "./dom.js";
import { link } from "./routes.js";

const KINDS = {
  call_without_result: "A tool call has no result where providers expect it.",
  result_without_call: "A result has no tool call before it.",
  duplicate_id: "Two messages have the same id.",
  empty_turn: "A message of the assistant is empty.",
};
const ACTIONS = {
  inserted: "A result was inserted.",
  moved: "The result was moved to its call.",
  renamed: "The id was renamed.",
  removed: "It was removed.",
};
const POLICIES = {
  cancel: "Give calls without a result one that says that they were cancelled. The model can call the tool again.",
  drop: "Remove calls without a result.",
};

// Show the problems of a session in a dialog, and repair them if the reader wants. Returns whether the session was changed.
export async function check({ namespace, session, signal, place }) {
  const found = await problems(namespace, session, signal);
  const unknown = found.unrecognized
    ? ` ${plural(found.unrecognized, "message")} in no known format ${found.unrecognized === 1 ? "was" : "were"} not checked.`
    : "";
  if (!found.problems.length) {
    show(place, `No problems were found.${unknown}`);
    return false;
  }
  const count = plural(found.problems.length, "problem");
  let done;
  const fields = [
    h("p", {}, `Providers refuse this conversation because of ${count}.${unknown}`),
    h("ul", { class: "problems", tabindex: "0" }, found.problems.map((item) => h("li", {}, at(namespace, session, item), KINDS[item.kind], item.id && id(item)))),
    h("fieldset", {}, h("legend", {}, "Repair"), Object.entries(POLICIES).map(policy)),
    h("p", { class: "muted" }, "Repair a session only when no agent is in the middle of a turn. Messages that stay keep their ids and times."),
  ];
  const changed = await fillIn("Check the session", fields, "Mend", async (given) => {
    done = await mend(namespace, session, given.policy);
  });
  if (changed) {
    const text = done.length ? "Mended." : "Another client has mended it.";
    show(place, text, done.map((item) => h("li", {}, at(namespace, session, item), ACTIONS[item.action])));
    say(text);
  }
  return changed;
}

function policy([name, text], index) {
  const input = h("input", { type: "radio", name: "policy", value: name, id: `policy-${name}`, checked: index === 0 });
  return h("p", { class: "choice" }, input, h("label", { for: `policy-${name}` }, text));
}

function show(place, text, items = []) {
  place.replaceChildren(h("p", { role: "status" }, text), items.length ? h("ul", { class: "problems" }, items) : "");
  place.hidden = false;
}

function at(namespace, session, { seq }) {
  const href = link(["n", namespace, "sessions", session], { at: seq });
  return [h("a", { href, onclick: (event) => event.target.closest("dialog")?.close() }, `#${number(seq)}`), " "];
}
const id = (item) => [" ", h("bdi", { class: "muted" }, item.id)];

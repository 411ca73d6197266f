// Shows messages of LangChain, OpenAI, Anthropic, LlamaIndex, Pydantic AI, AutoGen, or no framework as bubbles.

import { button, dayOf, h, number, time } from "./dom.js";
import { pretty } from "./json.js";

const LONG = 8_000; // characters shown at first

const ROLES = {
  user: ["user", "human", "usermessage", "request"],
  assistant: ["assistant", "ai", "model", "chatbot", "aimessagechunk", "assistantmessage", "response", "output"],
  system: ["system", "developer", "systemmessage"],
  tool: ["tool", "function", "functionexecutionresultmessage"],
};
const NAMES = { user: "User", assistant: "Assistant", system: "System", tool: "Tool", other: "Message" };

function roleOf(word) {
  const plain = String(word ?? "").toLowerCase();
  return Object.keys(ROLES).find((role) => ROLES[role].includes(plain));
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const written = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
const call = (name, input) => ({ kind: "call", name: String(name ?? "tool"), text: argumentsOf(input) });
const result = (name, output) => ({ kind: "result", name: String(name ?? ""), text: written(output ?? "") });
const text = (value) => (value ? [{ kind: "text", text: written(value) }] : []);

function argumentsOf(input) {
  if (typeof input !== "string") return written(input ?? {});
  try {
    JSON.parse(input);
    return pretty(input);
  } catch {
    return input;
  }
}

// Turns one block of a content into parts: {kind: text, thought, call, result or data, name, text}.
function partsOf(block) {
  if (typeof block === "string") return text(block);
  if (Array.isArray(block)) return block.flatMap(partsOf);
  if (!isObject(block)) return block == null ? [] : [{ kind: "data", text: written(block) }];
  const type = String(block.type ?? block.block_type ?? block.part_kind ?? "");
  if (/^(tool_use|tool[-_]call|function_call|function)$/.test(type)) {
    const inner = isObject(block.function) ? block.function : block;
    return [call(inner.name ?? inner.tool_name, inner.arguments ?? inner.args ?? inner.input ?? inner.tool_kwargs)];
  }
  if (/^(tool_result|tool-return|function_call_output|retry-prompt)$/.test(type)) {
    return [result(block.tool_name ?? block.name, block.content ?? block.output)];
  }
  if (/^(thinking|reasoning)$/.test(type)) {
    const thought = block.thinking ?? block.content ?? block.reasoning ?? block.summary;
    const parts = Array.isArray(thought) ? partsOf(thought) : text(thought);
    return parts.map((part) => ({ ...part, kind: "thought" }));
  }
  if (!type && typeof block.name === "string" && "arguments" in block) return [call(block.name, block.arguments)];
  if (!type && "call_id" in block && "content" in block) return [result(block.name, block.content)];
  if (typeof block.text === "string") return text(block.text);
  if (/^(user-prompt|system-prompt|refusal)$/.test(type)) return partsOf(block.content ?? block.refusal);
  return [{ kind: "data", text: written(block) }];
}

// The role, name and parts of a message.
export function shape(data) {
  if (typeof data === "string") return { role: "other", parts: text(data) };
  if (!isObject(data)) return { role: "other", parts: [{ kind: "data", text: written(data) }] };
  const inner = isObject(data.data) && typeof data.type === "string" ? data.data : data; // LangChain
  if (inner === data && /^(function_call|function_call_output|reasoning)$/.test(data.type)) {
    return { role: data.type === "function_call_output" ? "tool" : "assistant", parts: partsOf(data) }; // OpenAI Responses
  }
  const calls = [inner.tool_calls ?? inner.additional_kwargs?.tool_calls ?? []].flat().flatMap((item) => {
    const known = isObject(item?.function) ? item.function : item;
    return isObject(known) ? [call(known.name, known.arguments ?? known.args)] : [];
  });
  let parts = partsOf(inner.content ?? inner.blocks ?? inner.parts ?? inner.text);
  if (calls.length && !parts.some((part) => part.kind === "call")) parts.push(...calls);
  let role = roleOf(inner.role) ?? roleOf(data.type) ?? roleOf(data.kind) ?? "other";
  if (data.kind === "request" && parts.length && parts.every((part) => part.kind === "result")) role = "tool"; // Pydantic AI
  if (role === "tool") parts = parts.map((part) => (part.kind === "text" ? { ...part, kind: "result", name: "" } : part));
  const name = inner.name ?? inner.source ?? "";
  return { role, name: typeof name === "string" ? name : "", parts };
}

// The first text of a message, for a list.
export function gist(data) {
  const found = shape(data).parts.find((part) => part.kind === "text") ?? shape(data).parts[0];
  return found ? found.text.slice(0, 200) : "";
}

// `actions(message)` returns buttons for the header of the message.
export function bubble(message, previous, actions = () => []) {
  const { role, name, parts } = shape(message.data);
  const who = NAMES[role] + (name && name !== role ? ` ${name}` : "");
  const day = dayOf(message.created_at);
  const isNewDay = !previous || dayOf(previous.created_at) !== day;
  const whole = parts.length ? parts.map(part) : [block("data", pretty(message.text))];
  return h(
    "article",
    { class: "message", "data-role": role, "data-seq": message.seq, "aria-label": `${who}, message ${message.seq}` },
    isNewDay && h("p", { class: "day" }, day),
    h(
      "div",
      { class: "bubble" },
      h(
        "header",
        { class: "row" },
        h("strong", {}, who),
        time(message.created_at, "clock"),
        h("span", {}, `#${number(message.seq)}`),
        markOf(message),
        h("span", { class: "grow" }),
        actions(message),
        button("JSON", (event) => unfold(event.target, message.text), { class: "quiet", "aria-expanded": "false" }),
      ),
      whole,
    ),
  );
}

function markOf({ edited_at, redacted }) {
  if (redacted != null) return h("span", { class: "kind", title: edited_at }, redacted ? `Redacted: ${redacted}` : "Redacted");
  return edited_at && h("span", { class: "kind", title: edited_at }, "Edited");
}

function unfold(control, content) {
  const isOpen = control.getAttribute("aria-expanded") === "true";
  control.setAttribute("aria-expanded", String(!isOpen));
  const place = control.closest(".bubble");
  if (isOpen) place.querySelector(".raw").remove();
  else place.append(h("pre", { class: "raw", tabindex: "0" }, pretty(content)));
}

function part({ kind, name, text: content }) {
  if (kind === "call") return folded(`Calls ${name}`, () => block("call", content), "call", content.length < 400);
  if (kind === "result") return folded(name ? `Result of ${name}` : "Result", () => block("result", content), "result", content.length < 400);
  if (kind === "thought") return folded("Thought", () => block("text", content), "thought");
  return block(kind, content);
}

function block(kind, content) {
  const element = h(kind === "text" ? "p" : "pre", kind === "text" ? { class: "text", dir: "auto" } : { tabindex: "0" });
  if (content.length <= LONG) {
    element.textContent = content;
    return element;
  }
  element.textContent = `${content.slice(0, LONG)}…`;
  const more = button(`Show all ${number(content.length)} characters`, () => {
    element.textContent = content;
    more.remove();
  });
  return h("div", {}, element, more);
}

// Creates the content when it is first opened, because most are never opened.
function folded(summary, make, kind, isOpen = false) {
  const details = h("details", { class: kind, open: isOpen }, h("summary", {}, summary));
  if (isOpen) details.append(make());
  else details.addEventListener("toggle", () => details.append(make()), { once: true });
  return details;
}

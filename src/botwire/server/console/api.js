// The server's routes, with the caller's token. Names that are not safe in a path go into the query or the body.

import { items, member } from "./json.js";

const TOKEN = "botwire.token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN) || "",
  set: (secret) => (secret ? sessionStorage.setItem(TOKEN, secret) : sessionStorage.removeItem(TOKEN)),
};

export class Refused extends Error {
  constructor(status, document) {
    const detail = document.detail || document.title || `the server answered ${status}`;
    super(detail[0].toUpperCase() + detail.slice(1));
    this.status = status;
    this.code = String(document.type || "").replace("urn:botwire:error:", "");
    this.title = { 401: "Sign-in required.", 403: "Not allowed.", 409: "Not saved: changed since you opened it.", 429: "Quota exceeded.", 507: "Quota exceeded." }[status];
  }
}

// Returns the answer as text, so that values are shown unchanged.
export async function ask(method, path, { query = {}, body, signal } = {}) {
  return (await answer(method, path, { query, body, signal })).text();
}

async function answer(method, path, { query, body, signal }) {
  const headers = {};
  if (token.get()) headers.Authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const target = given.length ? `${path}?${new URLSearchParams(given)}` : path;
  let response;
  try {
    response = await fetch(target, { method, headers, body, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw Object.assign(new Error("The server or the network may be down. Try again."), { title: "The server cannot be reached." });
  }
  if (response.ok) return response;
  let document = {};
  try {
    document = await response.json();
  } catch {
    // not an answer from botwire: use the status only
  }
  throw new Refused(response.status, document);
}

// The events of a namespace as texts; each text ends with a complete event.
export async function* follow(namespace, signal) {
  const response = await answer("GET", of("watch", namespace), { query: {}, signal });
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  let rest = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    rest += decoder.decode(part.value, { stream: true });
    const end = rest.lastIndexOf("\n\n");
    if (end < 0) continue;
    yield rest.slice(0, end + 2);
    rest = rest.slice(end + 2);
  }
}

const get = async (path, query, signal) => JSON.parse(await ask("GET", path, { query, signal }));
const of = (what, namespace) => `${what}/${encodeURIComponent(namespace)}`;

export const whoami = () => get("whoami");
export const namespaces = (after, limit, signal) => get("namespaces", { after, limit }, signal);
export const usage = (namespace, signal) => get(of("usage", namespace), {}, signal);
export const usageHistory = async (namespace, days, signal) =>
  (await get(`${of("usage", namespace)}/history`, { days }, signal)).history;
export const keys = (namespace, query, signal) => get(of("memory", namespace), query, signal);
export const countKeys = async (namespace, prefix, signal) =>
  (await get(of("memory", namespace), { prefix, count: true }, signal)).count;
export const sessions = (namespace, query, signal) => get(of("sessions", namespace), query, signal);
export const session = (namespace, name, signal) => get(of("sessions", namespace), { session: name, about: true }, signal);
export const search = (namespace, query, signal) => get(of("search", namespace), query, signal);
export const audit = (after, limit, signal) => get("audit", { after, limit }, signal);
export const tokens = (namespace, signal) => get("tokens", { namespace }, signal);
export const revoke = (id, namespace) => ask("DELETE", of("tokens", id), { query: { namespace } });
export const createToken = async (asked) => JSON.parse(await ask("POST", "tokens", { body: JSON.stringify(asked) }));
export const plans = (signal) => get("plans", {}, signal);
export const retention = (namespace, signal) => get(of("retention", namespace), {}, signal);
export const problems = (namespace, session, signal) => get(of("problems", namespace), { session }, signal);
export const mend = async (namespace, session, policy) =>
  JSON.parse(await ask("POST", of("problems", namespace), { query: { session }, body: JSON.stringify({ policy }) })).problems;
export const destroy = async (namespace) => JSON.parse(await ask("DELETE", of("namespaces", namespace))).count;
export const setPlan = (namespace, plan) => ask("PUT", of("plans", namespace), { body: JSON.stringify({ plan }) });

// An entry with the text of its value, or undefined.
export async function entry(namespace, key, signal) {
  const text = await ask("GET", of("memory", namespace), { query: { key }, signal });
  const [found] = JSON.parse(text).entries;
  return found && { ...found, text: member(items(member(text, "entries"))[0], "value") };
}

// Messages with the text of each.
export async function messages(namespace, session, query, signal) {
  const text = await ask("GET", of("sessions", namespace), { query: { ...query, session }, signal });
  const texts = items(member(text, "messages"));
  return JSON.parse(text).messages.map((message, index) => ({ ...message, text: member(texts[index], "data") }));
}

// The text of the summary of a session: a list of messages.
export async function summary(namespace, session, signal) {
  return member(await ask("GET", of("sessions", namespace), { query: { session, context: true, last: 0 }, signal }), "summary");
}

// The version of a message: when it was last edited, or else created, in microseconds.
export function versionOf({ created_at, edited_at }) {
  const when = edited_at ?? created_at;
  const [, fraction = ""] = /\.(\d+)/.exec(when) ?? [];
  return Date.parse(when.replace(/\.\d+/, "")) * 1_000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

export async function write(namespace, ...operations) {
  const body = `{"operations": [${operations.join(", ")}]}`;
  return JSON.parse(await ask("POST", of("memory", namespace), { body })).results;
}

// An operation is a text, so that the value of a put stays unchanged.
export function put(key, value, options) {
  const rest = JSON.stringify({ op: "put", key, ...options });
  return `${rest.slice(0, -1)}, ${value}}`;
}

export const remove = (key) => JSON.stringify({ op: "delete", key });
export const forget = (session) => JSON.stringify({ op: "forget", session });
export const fork = (session, target, upto) => JSON.stringify({ op: "fork", session, target, upto });
export const setExpiry = (session, ttl) => JSON.stringify({ op: "set_expiry", session, ttl });
export const retain = (rule) => JSON.stringify({ op: "retain", ...rule });
export const setAbout = (session, about) => JSON.stringify({ op: "set_about", session, ...about });

// As for a put, the data is a text.
export function edit(session, seq, data, options) {
  const rest = JSON.stringify({ op: "edit", session, seq, ...options });
  return `${rest.slice(0, -1)}, "data": ${data}}`;
}

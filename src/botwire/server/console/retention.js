// How long the sessions of a namespace are kept: its rules and its plan. Also deletes the namespace.

import { mayWrite } from "./access.js";
import { plans, retain, retention, sessions, usage, write } from "./api.js";
import { destroying } from "./destroy.js";
import { button, confirmed, field, h, number, plural, problem, say } from "./dom.js";
import { duration, durationField, secondsIn } from "./durations.js";

const PAGE = 1_000;
const DAY = 86_400;

export class Retention {
  constructor({ namespace, me, signal, usage: known }) {
    Object.assign(this, { namespace, me, signal, rules: [] });
    this.writes = mayWrite(me);
    this.plan = h("p", { id: "plan-limit" });
    this.list = h("div", { class: "panel", tabindex: "-1" });
    this.status = h("div");
    this.element = h(
      "section",
      { class: "page" },
      h("h2", {}, "Retention of sessions"),
      h("p", {}, "The rule with the longest prefix applies to a session. A session expires by its rule, by the plan, or at a time of its own, whichever is first."),
      this.plan,
      this.list,
      this.status,
      this.writes ? this.form() : h("p", { class: "muted" }, "Your token may not write, so it cannot change the rules or delete the namespace."),
      this.writes && destroying(namespace),
    );
    this.refresh();
    this.loadPlan(known);
  }

  form() {
    const prefix = h("input", { name: "prefix", autocomplete: "off", spellcheck: "false" });
    return h(
      "form",
      {
        class: "panel",
        onsubmit: async (event) => {
          event.preventDefault();
          const form = event.target;
          if (await this.attempt(() => this.add(Object.fromEntries(new FormData(form))))) form.reset();
        },
      },
      h("h2", {}, "Add or replace a rule"),
      field("Prefix", prefix, "The rule is for sessions whose name begins with this. Empty: every session."),
      durationField("Expire after the last activity", "idle", "Optional."),
      durationField("Expire after the first message", "age", "Optional."),
      h("button", { class: "primary" }, "Set the rule"),
    );
  }

  async loadPlan(known) {
    try {
      const { plan } = known ?? (await usage(this.namespace, this.signal));
      if (this.shown === plan) return;
      this.shown = plan;
      this.plan.textContent = this.me.operator
        ? limitOf(plan, (await plans(this.signal)).plans[plan])
        : `The plan ${plan} may let sessions expire earlier. Only operators can see the limits of plans.`;
    } catch (error) {
      if (error.name !== "AbortError") this.plan.replaceChildren(problem(error));
    }
  }

  changed(usage) {
    this.refresh();
    this.loadPlan(usage);
  }

  // Replaces the list only if the rules changed, so that the focus stays on a button.
  async refresh() {
    try {
      const { rules } = await retention(this.namespace, this.signal);
      if (this.list.childElementCount && JSON.stringify(rules) === JSON.stringify(this.rules)) return;
      this.rules = rules;
      this.list.replaceChildren(rules.length ? this.listed(rules) : h("p", { class: "muted" }, "No rules."));
    } catch (error) {
      if (error.name !== "AbortError") this.list.replaceChildren(problem(error));
    }
  }

  listed(rules) {
    return h(
      "ul",
      { class: "hits", "aria-label": "Rules" },
      rules.map((rule) => h("li", { class: "row" }, h("bdi", { class: "grow" }, sentence(rule)), this.writes && this.removal(rule))),
    );
  }

  removal(rule) {
    return button("Remove", () => this.attempt(() => this.remove(rule)), { class: "danger", "aria-label": `Remove the rule for ${rule.prefix || "every session"}` });
  }

  // Runs an action that may be cancelled. Returns whether it was done; shows why if it failed.
  async attempt(action) {
    if (this.busy) return false; // it may count many sessions
    this.busy = true;
    this.status.replaceChildren();
    try {
      const text = await action();
      this.status.replaceChildren(...(text ? [h("p", { class: "good" }, text)] : []));
      say(text);
      await this.refresh();
      if (document.activeElement === document.body) this.list.focus(); // its button was removed
      return Boolean(text);
    } catch (error) {
      if (error.name !== "AbortError") this.status.replaceChildren(problem(error));
      return false;
    } finally {
      this.busy = false;
    }
  }

  async add(given) {
    const rule = { prefix: given.prefix, idle: secondsIn(given, "idle"), age: secondsIn(given, "age") };
    if (rule.idle === null && rule.age === null) throw new Error("Set a time after the last activity, or after the first message.");
    const old = this.rules.find(({ prefix }) => prefix === rule.prefix);
    const effect = await this.effect([...this.rules.filter((other) => other !== old), rule], rule.prefix);
    const question = [sentence(rule), ...(old ? [`This replaces the rule: ${sentence(old)}`] : []), effect];
    if (!(await confirmed(question, "Set the rule"))) return "";
    await write(this.namespace, retain(rule));
    return "The rule is set.";
  }

  async remove({ prefix }) {
    const rules = this.rules.filter((rule) => rule.prefix !== prefix);
    const next = ruleOf(prefix, rules);
    const effect = await this.effect(rules, prefix);
    const then = next ? `Then this rule applies to them: ${sentence(next)}` : "Then no rule applies to them.";
    if (!(await confirmed([`Remove the rule for ${named(prefix)}?`, then, effect], "Remove"))) return "";
    await write(this.namespace, retain({ prefix }));
    return "The rule is removed.";
  }

  // Says how many sessions expire at once under these rules. Only sessions with the prefix have another rule than before.
  async effect(rules, prefix) {
    const now = Date.now();
    let [count, seen] = [0, 0];
    for (let after; after !== null; ) {
      const page = await sessions(this.namespace, { prefix, after, limit: PAGE }, this.signal);
      count += page.sessions.filter((row) => hasExpired(row, ruleOf(row.session, rules), now)).length;
      seen += page.sessions.length;
      after = page.next;
      if (after !== null) this.status.replaceChildren(h("p", { class: "muted" }, `${number(seen)} sessions checked …`));
    }
    this.status.replaceChildren();
    if (!count) return "No session expires at once.";
    return `${plural(count, "session expires", "sessions expire")} at once. No one can read an expired session, and later writes delete its data. This cannot be undone.`;
  }
}

const named = (prefix) => (prefix ? `sessions whose name begins with “${prefix}”` : "every session");

function sentence({ prefix, idle, age }) {
  const times = [idle != null && `${duration(idle)} after the last activity`, age != null && `${duration(age)} after the first message`].filter(Boolean);
  const who = prefix ? `Sessions whose name begins with “${prefix}” expire` : "Every session expires";
  return `${who} ${times.join(" or ")}${times.length > 1 ? ", whichever is first" : ""}.`;
}

function ruleOf(name, rules) {
  return rules.filter(({ prefix }) => name.startsWith(prefix)).sort((a, b) => b.prefix.length - a.prefix.length)[0];
}

function hasExpired({ created_at, updated_at }, rule, now) {
  const before = (when, seconds) => seconds != null && Date.parse(when) + seconds * 1_000 <= now;
  return rule !== undefined && (before(updated_at, rule.idle) || before(created_at, rule.age));
}

function limitOf(name, plan) {
  const days = plan?.session_idle_days;
  return days == null ? `The plan ${name} sets no limit.` : `By the plan ${name}, every session expires ${duration(days * DAY)} after the last activity.`;
}

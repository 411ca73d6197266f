// Usage of a namespace and the limits of its plan, now and over time.

import { plans, setPlan, usage, usageHistory } from "./api.js";
import { bytes, field, h, number, problem, say, time } from "./dom.js";
import { plot } from "./plot.js";

const SPANS = { 1: "The last day", 7: "The last 7 days", 30: "The last 30 days", 90: "The last 90 days" };
const DAY = 86_400_000;

export class UsageView {
  constructor({ namespace, me, signal, usage: known }) {
    Object.assign(this, { namespace, me, signal });
    this.meters = h("div", { class: "cards" });
    this.plots = h("div", { class: "cards" });
    this.samples = [];
    this.span = h("select", { "aria-label": "Time shown", onchange: () => this.loadHistory() }, Object.entries(SPANS).map(([days, name]) => h("option", { value: days }, name)));
    this.span.value = "7";
    this.plan = h("div");
    this.status = h("div");
    this.element = h("section", { class: "page" }, h("h2", { class: "unseen" }, "Usage"), this.meters, this.plan, this.status, h("div", { class: "row" }, h("h2", { class: "grow" }, "History"), h("div", {}, this.span)), this.plots);
    this.loadHistory();
    if (known) this.changed(known);
    else usage(namespace, signal).then((now) => this.changed(now)).catch((error) => error.name === "AbortError" || this.status.replaceChildren(problem(error)));
    if (me.operator) this.offerPlans();
  }

  changed(usage) {
    this.usage = usage;
    this.meters.replaceChildren(
      meter("Writes today", usage.writes_today, usage.writes_per_day, number, h("small", { class: "muted" }, "Resets ", time(usage.resets_at, "utc"))),
      meter("Stored", usage.bytes, usage.max_bytes, bytes, h("small", { class: "muted" }, "Plan: ", h("bdi", {}, usage.plan))),
    );
    if (this.select) this.select.value = usage.plan;
    const at = Math.max(Date.now(), this.samples.at(-1)?.at ?? 0); // the times of samples are from the server's clock, which may be ahead
    this.samples.push({ at, writes: usage.writes_today, bytes: usage.bytes });
    this.draw();
  }

  async loadHistory() {
    try {
      const history = await usageHistory(this.namespace, this.span.value, this.signal);
      this.samples = history.map(({ at, writes_today, bytes: held }) => ({ at: Date.parse(at), writes: writes_today, bytes: held }));
      this.draw();
    } catch (error) {
      if (error.name !== "AbortError") this.status.replaceChildren(problem(error));
    }
  }

  draw() {
    if (!this.usage || !this.samples.length) return;
    this.plots.replaceChildren(
      graph("Writes today", this.samples.flatMap(withReset), "writes", this.usage.writes_per_day, number),
      graph("Stored", this.samples, "bytes", this.usage.max_bytes, bytes),
    );
  }

  async offerPlans() {
    try {
      const { plans: known } = await plans(this.signal);
      this.select = h("select", { onchange: () => this.choose() }, Object.keys(known).map((name) => h("option", { value: name }, name)));
      if (this.usage) this.select.value = this.usage.plan;
      this.plan.replaceChildren(h("div", { class: "panel" }, field("Plan of this namespace", this.select)));
    } catch (error) {
      if (error.name !== "AbortError") this.status.replaceChildren(problem(error));
    }
  }

  async choose() {
    try {
      await setPlan(this.namespace, this.select.value);
      this.changed(await usage(this.namespace, this.signal));
      this.status.replaceChildren();
      say(`The plan is now ${this.select.value}.`);
    } catch (error) {
      this.status.replaceChildren(problem(error));
    }
  }
}

// The count of writes resets with each UTC day.
function withReset(sample, index, samples) {
  const midnight = Math.floor(sample.at / DAY) * DAY;
  return index && samples[index - 1].at < midnight ? [{ at: midnight, writes: 0 }, sample] : [sample];
}

function meter(title, used, limit, show, more) {
  const share = limit ? used / limit : limit === 0 ? 1 : 0;
  const state = share >= 1 ? "full" : share >= 0.8 ? "near" : "fine";
  const words = { full: "Limit reached: writes are refused.", near: "Close to the limit.", fine: "" }[state];
  const id = `meter-${title.replace(/\W/g, "")}`;
  const bar = h("progress", { max: "1", value: String(Math.min(share, 1)), "aria-labelledby": id });
  return h(
    "div",
    { class: "panel meter", "data-state": state },
    h("h3", { id }, title),
    h("p", { class: "big" }, show(used), h("small", {}, limit == null ? " no limit" : ` of ${show(limit)}`)),
    limit != null && bar,
    words && h("p", { class: "state-word" }, words),
    more,
  );
}

function graph(title, samples, name, limit, show) {
  return h("div", { class: "panel" }, h("h3", {}, title), plot({ title, limit, show, points: samples.map((item) => ({ at: item.at, value: item[name] })) }));
}

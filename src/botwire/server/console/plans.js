// Plans and their limits, and assigning them to namespaces. For operators.

import { plans, setPlan } from "./api.js";
import { bytes, field, h, number, problem, say } from "./dom.js";
import { duration } from "./durations.js";

export class Plans {
  constructor({ signal }) {
    this.table = h("tbody");
    this.select = h("select");
    this.status = h("div");
    const name = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
    const form = h(
      "form",
      {
        class: "panel",
        onsubmit: async (event) => {
          event.preventDefault();
          try {
            await setPlan(name.value, this.select.value || null);
            const text = `${name.value} now has ${this.select.value ? `the plan ${this.select.value}` : "the default plan"}.`;
            this.status.replaceChildren(h("p", { class: "good" }, text));
            say(text);
          } catch (error) {
            this.status.replaceChildren(problem(error));
          }
        },
      },
      h("h2", {}, "Assign a plan"),
      field("Namespace", name),
      field("Plan", this.select),
      h("button", { class: "primary" }, "Assign"),
    );
    const head = ["Plan", "Writes per day", "Maximum size", "Idle sessions expire"].map((text) => h("th", { scope: "col" }, text));
    this.element = h(
      "section",
      { class: "page" },
      h("h1", {}, "Plans"),
      h("div", { class: "panel" }, h("table", {}, h("thead", {}, h("tr", {}, head)), this.table)),
      form,
      this.status,
    );
    this.load(signal);
  }

  async load(signal) {
    try {
      const { plans: all, default: usual } = await plans(signal);
      this.table.replaceChildren(
        ...Object.entries(all).map(([name, plan]) =>
          h(
            "tr",
            {},
            h("th", { scope: "row" }, name, name === usual && h("small", { class: "muted" }, " (default)")),
            h("td", {}, plan.writes_per_day == null ? "no limit" : number(plan.writes_per_day)),
            h("td", {}, plan.max_bytes == null ? "no limit" : bytes(plan.max_bytes)),
            h("td", {}, plan.session_idle_days == null ? "never" : `after ${duration(plan.session_idle_days * 86_400)}`),
          ),
        ),
      );
      this.select.replaceChildren(...Object.keys(all).map((name) => h("option", { value: name }, name)), h("option", { value: "" }, `default (${usual})`));
    } catch (error) {
      if (error.name !== "AbortError") this.status.replaceChildren(problem(error));
    }
  }
}

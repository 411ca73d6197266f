// A list in pages. The server returns the next cursor. The previous cursors are kept here.

import { button, h, problem } from "./dom.js";

// load(cursor) returns {rows, next}. render(row) returns an element for the list.
export class Pager {
  constructor({ load, render, empty, label }) {
    this.load = load;
    this.render = render;
    this.empty = empty;
    this.cursors = [undefined];
    this.list = h("ul", { class: "list", "aria-label": label });
    this.back = button("Previous", () => this.turn(-1));
    this.forward = button("Next", () => this.turn(1));
    this.where = h("span", { class: "muted" });
    this.pages = h("div", { class: "row pages", hidden: true }, this.back, this.where, this.forward);
    this.element = h("div", { class: "pager" }, this.list, this.pages);
  }

  restart() {
    this.cursors = [undefined];
    return this.refresh();
  }

  async turn(by) {
    if (by < 0) this.cursors.pop();
    else this.cursors.push(this.next);
    await this.refresh();
    this.list.scrollTop = 0;
    (this.list.querySelector("a") || this.element.querySelector("button:enabled"))?.focus();
  }

  async refresh() {
    const asked = (this.asked = Symbol("asked"));
    let page;
    try {
      page = await this.load(this.cursors.at(-1));
    } catch (error) {
      if (error.name !== "AbortError") this.list.replaceChildren(h("li", {}, problem(error)));
      return;
    }
    if (this.asked !== asked) return; // a later request was answered first
    const focused = this.list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    this.next = page.next;
    this.list.replaceChildren(...page.rows.map((row) => h("li", {}, this.render(row))));
    if (!page.rows.length) this.list.append(h("li", { class: "empty" }, this.empty));
    if (focused) [...this.list.querySelectorAll("a")].find((item) => item.getAttribute("href") === focused)?.focus();
    this.pages.hidden = this.cursors.length === 1 && page.next == null;
    this.back.disabled = this.cursors.length === 1;
    this.forward.disabled = page.next == null;
    this.where.textContent = `Page ${this.cursors.length}`;
  }

  // Mark the selected row.
  mark(href) {
    for (const item of this.list.querySelectorAll("a")) {
      if (item.getAttribute("href") === href) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
    }
  }
}

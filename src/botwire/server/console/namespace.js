// One namespace: its tabs, updated live.

import { Exporting } from "./export.js";
import { h } from "./dom.js";
import { Keys } from "./keys.js";
import { follow } from "./live.js";
import { remember } from "./namespaces.js";
import { Retention } from "./retention.js";
import { link } from "./routes.js";
import { Search } from "./search.js";
import { Sessions } from "./sessions.js";
import { UsageView } from "./usage.js";

const TABS = { sessions: ["Sessions", Sessions], keys: ["Keys", Keys], search: ["Search", Search], retention: ["Retention", Retention], usage: ["Usage", UsageView] };
const STATES = { live: "Live", offline: "Offline", refused: "Access refused" };

export class Namespace {
  constructor({ me, name, signal }) {
    Object.assign(this, { me, name, signal });
    this.state = h("span", { class: "state", role: "status" });
    this.tabs = h("nav", { class: "tabs", "aria-label": "Namespace" });
    for (const [tab, [label]] of Object.entries(TABS)) this.tabs.append(h("a", { href: link(["n", name, tab]), "data-tab": tab }, label));
    this.place = h("div", { class: "place" });
    this.element = h(
      "div",
      { class: "namespace" },
      h("div", { class: "head" }, h("h1", {}, h("bdi", {}, name)), this.state, new Exporting(name, signal).element),
      this.tabs,
      this.place,
    );
    remember(name);
    follow(name, {
      signal,
      changed: (usage) => {
        this.usage = usage;
        this.view?.changed?.(usage);
      },
      state: (state) => {
        this.state.textContent = STATES[state];
        this.state.dataset.state = state;
      },
    });
  }

  async show([tab = "sessions", item], query) {
    if (this.tab !== tab) {
      this.left?.abort();
      this.left = new AbortController();
      const signal = AbortSignal.any([this.signal, this.left.signal]);
      const [, View] = TABS[tab] || TABS.sessions;
      this.tab = tab;
      this.view = new View({ namespace: this.name, me: this.me, signal, usage: this.usage });
      this.place.replaceChildren(this.view.element);
      for (const other of this.tabs.children) {
        if (other.dataset.tab === tab) other.setAttribute("aria-current", "page");
        else other.removeAttribute("aria-current");
      }
    }
    const focused = document.activeElement;
    const isDeep = this.element.classList.toggle("deep", item !== undefined || query.has("new"));
    await this.view.show?.(item, query);
    // A phone shows either the list or the selected item. Move the focus to the visible one.
    const hasMoved = ![focused, document.body].includes(document.activeElement);
    const isHidden = !focused.isConnected || !focused.checkVisibility(); // a live update can replace the list
    if (focused !== document.body && isHidden && !hasMoved) {
      this.place.querySelector(isDeep ? ".back" : ".list a")?.focus();
    }
  }
}

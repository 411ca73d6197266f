// Shows a conversation of any length. The page holds a part of it, which grows in the direction of scrolling and is cut at the
// other end.

import { button, h, number, plural } from "./dom.js";

const PAGE = 60;
const MOST = 300;
const NEAR = 900; // load more messages when the end is closer than this, in pixels
const BOTTOM = 60;
const MARGIN = 12;

// load({last} or {after, limit}) returns messages with seq and id. render(message, previous) returns an element.
export class Feed {
  constructor({ load, render, label }) {
    Object.assign(this, { load, render, rows: [], total: 0, unseen: 0, counted: () => {} });
    this.scroller = h("div", {
      class: "feed",
      role: "group",
      tabindex: "0",
      "aria-label": label,
      onscroll: () => this.scrolled(),
      onkeydown: (event) => this.key(event),
    });
    this.slider = h("input", { type: "range", min: "1", "aria-label": "Position in the conversation", oninput: () => this.point(), onchange: () => this.jump() });
    this.where = h("output", { class: "muted" });
    this.newest = button("Newest", () => this.open(), { class: "quiet" });
    this.bar = h("div", { class: "row seek", hidden: true }, button("Oldest", () => this.at(1), { class: "quiet" }), this.slider, this.newest, this.where);
    this.element = h("div", { class: "talking" }, this.scroller, this.bar);
  }

  // Show the end, or the requested message.
  async open(seq = 0) {
    const last = await this.load({ last: PAGE });
    this.end(last.at(-1));
    this.unseen = 0;
    if (seq && seq <= this.total - PAGE / 2) {
      await this.at(seq);
      return;
    }
    this.replace(last);
    this.scroller.scrollTop = this.scroller.scrollHeight;
    if (seq) this.target(seq);
    await this.fill();
  }

  // Show a message from the middle, with some before and after it.
  async at(seq) {
    const after = Math.max(0, seq - 1 - PAGE / 2);
    this.replace(await this.load({ after, limit: PAGE }));
    this.target(seq);
    await this.fill();
  }

  // The session changed: load the last shown message again, and the messages after it.
  async changed() {
    const [was, id] = [this.total, this.lastId];
    const found = await this.load({ after: Math.max(0, was - 1), limit: PAGE });
    const isSame = was === 0 || found[0]?.id === id;
    if (was !== this.total) return;
    const fresh = found.slice(was === 0 ? 0 : 1);
    const isAtEnd = (this.rows.at(-1)?.seq ?? 0) === was;
    const follows = isAtEnd && this.atBottom;
    if (!isSame || (follows && found.length === PAGE)) {
      await this.open();
      return;
    }
    if (!fresh.length) return;
    this.end(found.length === PAGE ? (await this.load({ last: 1 }))[0] : fresh.at(-1));
    if (isAtEnd) this.append(fresh);
    if (follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.unseen += this.total - was;
    this.showUnseen();
  }

  // Messages were edited or removed: load those that are shown again.
  async reload() {
    if (!this.rows.length) return this.open();
    const { scrollTop } = this.scroller;
    const isAtBottom = this.atBottom;
    const [first, last] = [this.rows[0].seq, this.rows.at(-1).seq];
    const found = await this.load({ after: first - 1, limit: last - first + 1 });
    const [end] = await this.load({ last: 1 });
    this.end(end);
    if (!found.length) return this.open();
    this.replace(found);
    this.scroller.scrollTop = isAtBottom ? this.scroller.scrollHeight : scrollTop;
  }

  get atBottom() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < BOTTOM;
  }

  // Record that this message is the last of the session.
  end(message) {
    const total = message?.seq ?? 0;
    this.total = total;
    this.lastId = message?.id;
    this.counted(total);
    this.bar.hidden = total <= PAGE / 2;
    this.slider.max = String(Math.max(1, total));
    for (const row of this.rows) row.element.setAttribute("aria-setsize", total);
  }

  replace(messages) {
    this.rows = [];
    this.scroller.replaceChildren();
    this.scroller.setAttribute("role", "group"); // an element with the role "feed" must contain articles
    this.append(messages);
    if (!messages.length) this.scroller.append(h("p", { class: "empty" }, "No messages."));
    this.showUnseen();
  }

  made(messages, previous) {
    return messages.map((message) => {
      const element = this.render(message, previous);
      element.setAttribute("tabindex", "-1");
      element.setAttribute("aria-posinset", message.seq);
      element.setAttribute("aria-setsize", this.total);
      previous = message;
      return { seq: message.seq, message, element };
    });
  }

  append(messages) {
    if (messages.length && !this.rows.length) {
      this.scroller.querySelector(".empty")?.remove();
      this.scroller.setAttribute("role", "feed");
    }
    const rows = this.made(messages, this.rows.at(-1)?.message);
    this.rows.push(...rows);
    this.scroller.append(...rows.map((row) => row.element));
    const removed = this.rows.splice(0, Math.max(0, this.rows.length - MOST));
    this.keepPosition(() => removed.forEach((row) => row.element.remove()));
  }

  prepend(messages) {
    const rows = this.made(messages, undefined);
    this.keepPosition(() => this.scroller.prepend(...rows.map((row) => row.element)));
    this.rows.unshift(...rows);
    this.rows.splice(MOST).forEach((row) => row.element.remove());
  }

  // Change rows above the visible part without scrolling. Not every browser does this itself.
  keepPosition(change) {
    const { scrollTop, scrollHeight } = this.scroller;
    change();
    this.scroller.scrollTop = scrollTop + this.scroller.scrollHeight - scrollHeight;
  }

  scrolled() {
    const first = this.firstVisible();
    if (first) {
      this.slider.value = String(first.seq);
      this.name(first.seq);
    }
    if (this.atBottom && this.rows.at(-1)?.seq === this.total) {
      this.unseen = 0;
      this.showUnseen();
    }
    this.fill();
  }

  // Load messages before the user scrolls to them.
  async fill() {
    if (this.filling || !this.rows.length) return;
    this.filling = true;
    try {
      for (let more = true; more; ) more = await this.step();
    } catch {
      // the next scroll tries again
    }
    this.filling = false;
  }

  async step() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const [first, last] = [this.rows[0], this.rows.at(-1)];
    if (clientHeight === 0) return false;
    if (first.seq > 1 && scrollTop < NEAR) {
      const limit = Math.min(PAGE, first.seq - 1);
      const found = await this.load({ after: first.seq - 1 - limit, limit });
      if (this.rows[0] === first) this.prepend(found);
      return found.length > 0;
    }
    if (last.seq < this.total && scrollHeight - scrollTop - clientHeight < NEAR) {
      const found = await this.load({ after: last.seq, limit: PAGE });
      if (this.rows.at(-1) === last) this.append(found);
      return found.length > 0;
    }
    return false;
  }

  firstVisible() {
    const top = this.scroller.scrollTop;
    let [low, high] = [0, this.rows.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      const { offsetTop, offsetHeight } = this.rows[middle].element;
      if (offsetTop + offsetHeight > top + MARGIN) high = middle;
      else low = middle + 1;
    }
    return this.rows[low];
  }

  target(seq) {
    const row = this.rows.find((item) => item.seq === seq);
    if (!row) return;
    this.scroller.querySelector(".target")?.classList.remove("target");
    row.element.classList.add("target");
    this.scroller.scrollTop = row.element.offsetTop - MARGIN;
    row.element.focus({ preventScroll: true });
  }

  point() {
    this.name(Number(this.slider.value));
  }

  jump() {
    this.at(Number(this.slider.value)).catch(() => {});
  }

  name(seq) {
    this.where.textContent = `${number(seq)} of ${number(this.total)}`;
  }

  showUnseen() {
    this.newest.textContent = this.unseen ? `↓ ${plural(this.unseen, "new message")}` : "Newest";
    this.newest.classList.toggle("primary", this.unseen > 0);
  }

  // Keys of the feed pattern in the ARIA Authoring Practices Guide.
  key(event) {
    const step = { PageDown: 1, PageUp: -1 }[event.key];
    if (event.ctrlKey && (event.key === "End" || event.key === "Home")) {
      event.preventDefault();
      (event.key === "End" ? this.open() : this.at(1)).catch(() => {});
    } else if (step) {
      event.preventDefault();
      const now = this.rows.findIndex((row) => row.element.contains(document.activeElement));
      const from = now < 0 ? this.rows.indexOf(this.firstVisible()) - step : now;
      const row = this.rows[Math.min(Math.max(from + step, 0), this.rows.length - 1)];
      row?.element.focus({ preventScroll: true });
      row?.element.scrollIntoView({ block: "nearest" });
    }
  }
}

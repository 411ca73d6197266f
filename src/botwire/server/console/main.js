// Starts the console and shows the view in the address.

import { Access } from "./access.js";
import { token, whoami } from "./api.js";
import { Audit } from "./audit.js";
import { h, problem } from "./dom.js";
import { Namespace } from "./namespace.js";
import { Namespaces } from "./namespaces.js";
import { Plans } from "./plans.js";
import { here, link } from "./routes.js";
import { setUpTheme } from "./theme.js";
import { Tokens } from "./tokens.js";

const VIEWS = { "": Namespaces, n: Namespace, tokens: Tokens, plans: Plans, audit: Audit, access: Access };

const main = document.getElementById("main");
const places = document.getElementById("places");
let current = { key: null };

async function signIn() {
  let me = { mode: "required", operator: false, token: null };
  try {
    me = await whoami();
  } catch (error) {
    me.refusal = error;
  }
  const may = me.operator ? ["plans", "audit"] : [];
  const names = { "": "Namespaces", tokens: "Tokens", plans: "Plans", audit: "Audit", access: token.get() ? "Signed in" : "Sign in" };
  places.replaceChildren(
    ...["", "tokens", ...may, "access"].map((name) => h("a", { href: link(name ? [name] : []), "data-place": name }, names[name])),
  );
  return me;
}

// Removes a token from the address (#token=bw_…) at once, so that no history or bookmark contains it.
function takeToken() {
  const given = /^#token=(.+)$/.exec(location.hash);
  if (!given) return;
  token.set(decodeURIComponent(given[1]));
  history.replaceState(null, "", "#/");
}

async function show() {
  takeToken();
  const { parts, query } = here();
  const [name = "", first] = parts;
  const key = JSON.stringify([name, name === "n" ? first : "", token.get()]);
  if (current.key !== key) {
    current.stop?.abort();
    const stop = new AbortController();
    current = { key, stop };
    const opened = current;
    const me = await signIn();
    if (current !== opened) return;
    const View = VIEWS[name];
    current.view = View ? new View({ me, signal: stop.signal, name: first, again: show }) : nowhere();
    main.replaceChildren(...(me.refusal && name !== "access" ? [refused(me.refusal)] : []), current.view.element);
  }
  for (const place of places.children) {
    const isHere = place.dataset.place === (name === "n" ? "" : name);
    if (isHere) place.setAttribute("aria-current", "page");
    else place.removeAttribute("aria-current");
  }
  await current.view?.show?.(parts.slice(2), query);
  const heading = main.querySelector("h1");
  document.title = [...(heading ? [heading.textContent] : []), "botwire"].join(" · ");
}

function refused(error) {
  return h("div", { class: "page" }, problem(error), h("p", {}, h("a", { href: link(["access"]) }, "Sign in with another token")));
}

function nowhere() {
  return { element: h("section", { class: "page" }, h("h1", {}, "Page not found"), h("a", { href: "#/" }, "Namespaces")) };
}

// Moves the keyboard focus to the start of a new page.
async function arrive() {
  const before = current.key;
  await show();
  if (current.key !== before) main.focus({ preventScroll: true });
}

setUpTheme(document.getElementById("theme"));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // addresses with # are views
  main.focus();
});
addEventListener("hashchange", arrive);
show();

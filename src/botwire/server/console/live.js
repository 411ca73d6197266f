// What changes in a namespace while somebody looks at it: the server tells it by server-sent events. Where it cannot, because
// a proxy keeps them or it has too many watchers, the namespace's usage tells that something was written.

import { follow as stream, usage } from "./api.js";

const PAUSE = 150; // for an agent that writes a hundred times a second
const AGAIN = 1_000;
const SOON = 2_000;
const LATER = 10_000;
const QUIET = 60_000;

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Calls changed(usage) at once and after every change, and state("live" | "offline" | "refused"), until the signal is aborted.
export function follow(namespace, { signal, changed, state }) {
  let last = "";
  let since = Date.now();
  let streams = true;

  // Whether the server can be reached. A look that finds nothing new calls nobody.
  async function look() {
    try {
      const now = await usage(namespace, signal);
      state("live");
      const mark = JSON.stringify(now);
      if (mark !== last) {
        [last, since] = [mark, Date.now()];
        changed(now);
      }
      return true;
    } catch (error) {
      if (!signal.aborted) state(error.status && error.status < 500 ? "refused" : "offline");
      return false;
    }
  }

  // Returns when the events end; whether there were any.
  async function listen() {
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort(); // a browser has few connections for a server
    document.addEventListener("visibilitychange", hide, { signal });
    let told = false;
    try {
      for await (const text of stream(namespace, AbortSignal.any([signal, hidden.signal]))) {
        told = true;
        if (!/^data:/m.test(text)) continue; // it only says that it is there
        await sleep(PAUSE);
        if (!(await look())) break;
      }
    } catch (error) {
      streams = error.status !== 404; // the next look says whether the server is there
    }
    document.removeEventListener("visibilitychange", hide);
    return told || hidden.signal.aborted;
  }

  function shown() {
    if (!document.hidden) return null;
    return new Promise((resolve) => {
      document.addEventListener("visibilitychange", resolve, { once: true, signal });
    });
  }

  async function run() {
    while (!signal.aborted) {
      await shown();
      const isThere = await look();
      if (isThere && streams && (await listen())) await sleep(PAUSE);
      else await sleep(isThere ? (Date.now() - since > QUIET ? LATER : SOON) : AGAIN);
    }
  }

  run();
}

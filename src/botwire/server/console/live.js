// Follows changes in a namespace with server-sent events. If they do not arrive, because a proxy buffers them or the server has
// too many watchers, it polls the usage of the namespace.

import { follow as stream, usage } from "./api.js";

const PAUSE = 150; // limits the updates while an agent writes a hundred times a second
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

  // Poll the usage. Returns whether the server can be reached; calls changed() only if the usage changed.
  async function poll() {
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

  // Returns when the events end: true if there were any.
  async function listen() {
    const hidden = new AbortController();
    const hide = () => document.hidden && hidden.abort(); // browsers limit the connections to a server
    document.addEventListener("visibilitychange", hide, { signal });
    let received = false;
    try {
      for await (const text of stream(namespace, AbortSignal.any([signal, hidden.signal]))) {
        const first = !received; // what changed before the stream began is not in it
        received = true;
        if (!first && !/^data:/m.test(text)) continue; // a keep-alive
        await sleep(PAUSE);
        if (!(await poll())) break;
      }
    } catch (error) {
      streams = error.status !== 404; // the next poll checks the server
    }
    document.removeEventListener("visibilitychange", hide);
    return received || hidden.signal.aborted;
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
      const isThere = await poll();
      if (isThere && streams && (await listen())) await sleep(PAUSE);
      else await sleep(isThere ? (Date.now() - since > QUIET ? LATER : SOON) : AGAIN);
    }
  }

  run();
}

/** Datastar 1: `<mercure-datastar-stream src="…">` patches elements and signals as the hub's events say. */

import type { MercureEvent } from "../index.js";
import { StreamElement } from "../page/stream-element.js";

/** See {@link StreamElement} for its attributes. */
export class MercureDatastarStream extends StreamElement {
  protected override readonly ready = loaded;

  protected override receive({ type, data }: MercureEvent): void {
    if (!type.startsWith("datastar-")) return;
    const argsRaw: Record<string, string> = {};
    for (const line of data.split("\n")) {
      const name = line.split(" ", 1)[0] as string;
      argsRaw[name] = (name in argsRaw ? `${argsRaw[name]}\n` : "") + line.slice(name.length + 1);
    }
    // Datastar's own actions send this event, too.
    document.dispatchEvent(new CustomEvent("datastar-fetch", { detail: { type, el: this, argsRaw } }));
  }
}

/** Datastar's module may stand behind this one. */
const loaded = new Promise<unknown>((resolve) => {
  if (document.readyState === "complete") resolve(0);
  for (const event of ["DOMContentLoaded", "load"]) addEventListener(event, resolve);
});

customElements.define("mercure-datastar-stream", MercureDatastarStream);

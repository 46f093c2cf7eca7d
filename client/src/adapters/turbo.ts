/** Turbo 8: `<mercure-turbo-stream src="…">` performs the Turbo Streams that the hub sends. */

import type { MercureEvent } from "../index.js";
import { StreamElement } from "../page/stream-element.js";

declare const Turbo: { renderStreamMessage(html: string): void };

/** See {@link StreamElement} for its attributes. */
export class MercureTurboStream extends StreamElement {
  // Turbo defines it, and `window.Turbo` right after.
  protected override readonly ready = customElements.whenDefined("turbo-stream");

  protected override receive({ type, data }: MercureEvent): void {
    if (type === "message") Turbo.renderStreamMessage(data);
  }
}

customElements.define("mercure-turbo-stream", MercureTurboStream);

/** What a page can say about a subscription. */

import type { Gap, MercureEvent, Refusal, State } from "./event.js";
import type { Protocol } from "./selector.js";
import type { Connecting } from "./stream.js";

/** All of them are optional. */
export interface Options extends Connecting {
  /** The dialect. Default: that of the parameters in the URL, else "0.x". */
  readonly protocol?: Protocol;
  /** The id of the event after which the subscription begins, such as the page's own cursor; `earliest`: with everything
   * that the hub holds. Default: that of the URL, else it begins now. */
  readonly lastEventId?: string;
  /** Where the cursor is kept. `session` (sessionStorage): it survives a reload, but a cursor in the URL or in
   * `lastEventId` is newer. Default: `memory`. */
  readonly cursor?: "memory" | "session";
  /**
   * Whether all tabs of the origin share one stream. A text names the group that shares: with a token it says that the
   * token of each tab may be asked for the topics of all. Default: true without `token`, false with.
   */
  readonly share?: boolean | string;
  /** Closes the subscription. */
  readonly signal?: AbortSignal;
  /** Hears every event of every type. */
  readonly onEvent?: (event: MercureEvent) => void;
  /** Updates may have been lost: load anew what the page shows. */
  readonly onGap?: (gap: Gap) => void;
  readonly onState?: (state: State) => void;
  readonly onRefusal?: (refusal: Refusal) => void;
}

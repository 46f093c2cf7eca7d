/** What a page hears. */

import type { Block } from "./parser.js";

/** An update, as the hub sent it. */
export interface MercureEvent<Data = unknown> {
  /** Its id, which is also the cursor behind it. Empty: the hub gave none. */
  readonly id: string;
  /** `message` where the publisher gave none. */
  readonly type: string;
  readonly data: string;
  /** Its topics, the canonical topic first. Empty: the hub does not name them. */
  readonly topics: readonly string[];
  /**
   * The data, read as JSON.
   *
   * @throws SyntaxError The data is no JSON.
   */
  json<Value = Data>(): Value;
}

/** Updates may have been lost: the hub's stream begins elsewhere than the client asked. */
export interface Gap {
  /** The id after which the client asked to continue. */
  readonly asked: string;
  /** The id after which the hub's answer begins. `earliest`: with everything that the hub still holds. */
  readonly answered: string;
}

/** The hub, or what stands in front of it, has refused a stream. */
export interface Refusal {
  /** The status of the answer. 0: there was no answer, because `token` failed. */
  readonly status: number;
  /** What the answer says (RFC 9457), or what the client says where there is no such answer. */
  readonly title?: string;
  readonly detail?: string;
  /** Whether the client tries again. It always does, but for one event that is too large. */
  readonly willRetry: boolean;
}

/**
 * What becomes of a subscription.
 *
 * - `connecting`: a request is on its way.
 * - `open`: updates come.
 * - `waiting`: the stream has ended, and the client connects again soon.
 * - `refused`: as `waiting`, after a refusal.
 * - `closed`: by the page, for good.
 */
export type State = "connecting" | "open" | "waiting" | "refused" | "closed";

/** Makes the event that listeners get. */
export function toEvent(block: Block): MercureEvent {
  const { data = "" } = block;
  return { id: "", ...block, data, json: <Value>() => JSON.parse(data) as Value };
}

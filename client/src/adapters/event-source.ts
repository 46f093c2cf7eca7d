/** An object with the interface of a browser's `EventSource`, for libraries that take one. It never gives up. */

import { subscribe, type Options, type Subscription } from "../index.js";

/** Those of `EventSource`, and those of {@link subscribe}. */
export interface MercureEventSourceInit extends Options {
  /** Cookies also go to a hub of another origin. */
  readonly withCredentials?: boolean;
}

/**
 * ```js
 * htmx.createEventSource = (url) => new MercureEventSource(url, { withCredentials: true });
 * ```
 *
 * `error` says that the stream has ended; it is opened again, so `readyState` is `CLOSED` only after `close()`.
 */
export class MercureEventSource extends EventTarget {
  static readonly CONNECTING = 0;
  static readonly OPEN = 1;
  static readonly CLOSED = 2;
  readonly CONNECTING = 0;
  readonly OPEN = 1;
  readonly CLOSED = 2;
  readonly url: string;
  readonly withCredentials: boolean;
  /** The subscription behind it. */
  readonly subscription: Subscription;
  onopen: ((event: Event) => void) | null = null;
  onmessage: ((event: MessageEvent<string>) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;

  /** @param url That of a subscription. */
  constructor(url: string | URL, init: MercureEventSourceInit = {}) {
    super();
    this.url = new URL(url, globalThis.document?.baseURI).href;
    this.withCredentials = init.withCredentials ?? false;
    const { origin } = new URL(this.url);
    this.subscription = subscribe(url, [], {
      ...(this.withCredentials ? { credentials: "include" } : {}),
      ...init,
      onEvent: (event) => {
        init.onEvent?.(event);
        const { type, data, id } = event;
        this.#dispatch(new MessageEvent(type, { data, origin, lastEventId: id || this.subscription.lastEventId }));
      },
      onState: (state) => {
        init.onState?.(state);
        if (state === "open") this.#dispatch(new Event("open"));
        else if (state === "waiting" || state === "refused") this.#dispatch(new Event("error"));
      },
    });
  }

  get readyState(): 0 | 1 | 2 {
    const { state } = this.subscription;
    return state === "open" ? 1 : state === "closed" ? 2 : 0;
  }

  close(): void {
    this.subscription.close();
  }

  #dispatch(event: Event): void {
    const handler = this[`on${event.type}` as "onopen"];
    if (/^(open|message|error)$/.test(event.type)) handler?.call(this, event);
    this.dispatchEvent(event);
  }
}

/** An element of the page whose stream lasts as long as the element is in the document. */

import { subscribe, type MercureEvent, type Subscription } from "../index.js";
import { tell } from "./tell.js";

const CURSOR = "last-event-id";

/**
 * Attributes:
 *
 * - `src`: the URL that subscribes, with the cursor of the page. When it changes, the page has been rendered anew, and
 *   the stream begins there.
 * - `token`: sent in a header. When the hub refuses it, the page is asked for a new one: the user's page has the same
 *   element, with a token that lasts.
 * - `last-event-id`: the cursor, which the element keeps there. So it outlasts a move, and a copy of the page in a cache
 *   goes on from where the copy was made.
 */
export abstract class StreamElement extends HTMLElement {
  static readonly observedAttributes = ["src"];

  #news: Subscription | undefined;
  #isRefused = false;

  /** Resolves once the library that takes the events is there. */
  protected abstract readonly ready: Promise<unknown>;

  protected abstract receive(event: MercureEvent): void;

  connectedCallback(): void {
    this.#update();
  }

  disconnectedCallback(): void {
    this.#update();
  }

  attributeChangedCallback(_name: string, before: string | null): void {
    if (before === null) return;
    this.#close();
    this.removeAttribute(CURSOR);
    this.#update();
  }

  /** Later, so that a move in the document is no change. */
  #update(): void {
    void this.ready.then(() => {
      if (!this.isConnected) this.#close();
      else if (!this.#news) this.#open();
    });
  }

  #close(): void {
    const news = this.#news;
    this.#news = undefined;
    news?.close();
  }

  #open(): void {
    const options = tell(this);
    this.#news = subscribe(this.getAttribute("src") ?? "", [], {
      ...options,
      // Without the attribute, the client takes the cursor of the URL.
      lastEventId: this.getAttribute(CURSOR) as string,
      ...(this.hasAttribute("token") ? { token: () => this.#token() } : {}),
      onEvent: (event) => {
        this.#keep(event.id);
        this.receive(event);
      },
      onState: (state) => {
        this.#keep();
        options.onState(state);
      },
      onRefusal: (refusal) => {
        this.#isRefused ||= /40[13]/.test(`${refusal.status}`);
        options.onRefusal(refusal);
      },
    });
  }

  #keep(cursor?: string): void {
    cursor ||= this.#news?.lastEventId;
    if (cursor) this.setAttribute(CURSOR, cursor);
  }

  async #token(): Promise<string> {
    if (this.#isRefused) {
      this.#isRefused = false;
      const answer = await fetch(document.URL, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const same of page.querySelectorAll(this.localName))
        if (topics(same) === topics(this)) this.setAttribute("token", token(same));
    }
    return token(this);
  }
}

const token = (element: Element) => element.getAttribute("token") ?? "";

/** The URL without the cursor. */
const topics = (element: Element) => element.getAttribute("src")?.replace(/&last_?event_?id=[^&]*/i, "");

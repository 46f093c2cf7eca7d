/**
 * htmx 2 with its extension `sse`, and htmx 4 with `hx-sse`: the streams of a Mercure hub come from the client, so they
 * keep their cursor and outlast refusals. Attributes stay as they are, and so do streams that are not of a Mercure hub.
 *
 * Cookies are sent, as the extension of htmx 2 does. The element of a stream tells of it: see {@link tell}.
 */

import { subscribe, type MercureEvent } from "../index.js";
import { MercureEventSource } from "./event-source.js";
import { tell } from "../page/tell.js";

/** A URL that subscribes on a Mercure hub, in either dialect. */
const isSubscription = (url: string) => /[?&](topic|match\w*)=/.test(url);

const CURSOR = /&last_?event_?id=[^&]*/i;

// htmx 2

/** htmx 2, as far as this adapter needs it. */
interface Htmx {
  createEventSource?: (url: string) => EventSource | MercureEventSource;
}

/** The source of each element. */
const sources = new WeakMap<EventTarget, MercureEventSource>();
let processed: EventTarget = document;

// htmx processes an element again when an attribute has changed, as a morph does. It has forgotten the former source by
// then, which would go on and swap everything a second time.
document.addEventListener("htmx:beforeProcessNode", ({ target }) => sources.get(target as EventTarget)?.close());

// The extension makes the source right after this event.
document.addEventListener("htmx:afterProcessNode", ({ target }) => {
  processed = target as EventTarget;
});

// The page that htmx keeps for the button "back" goes on from here, as it has everything that was swapped until now.
document.addEventListener("htmx:beforeHistorySave", () => {
  for (const element of document.querySelectorAll("[sse-connect]")) {
    const source = sources.get(element);
    // The client takes this name in both dialects.
    if (source) element.setAttribute("sse-connect", `${source.url.replace(CURSOR, "")}&lastEventID=${encodeURIComponent(source.subscription.lastEventId)}`);
  }
});

/** Has the extension `sse` of htmx 2 use the client. */
export function install(htmx: Htmx): void {
  const other = htmx.createEventSource ?? ((url) => new EventSource(url, { withCredentials: true }));
  htmx.createEventSource = (url) => {
    if (!isSubscription(url)) return other(url);
    const source = new MercureEventSource(url, tell(processed));
    sources.set(processed, source);
    return source;
  };
}

const { htmx } = globalThis as { htmx?: Htmx };
if (htmx) install(htmx);
// Its script stands behind this module in the page. It begins with the same event, after this.
else document.addEventListener("DOMContentLoaded", () => install((globalThis as unknown as { htmx: Htmx }).htmx));

// htmx 4

/** A request of htmx 4, as far as this adapter needs it. */
interface Context {
  sourceElement: Element;
  request: { action: string };
  fetch?: (url: string, init: { signal: AbortSignal }) => Promise<Response>;
}

document.addEventListener("htmx:config:request", (event) => {
  const { ctx } = (event as CustomEvent<{ ctx: Context }>).detail;
  if (isSubscription(ctx.request.action)) ctx.fetch = async (url, init) => respond(ctx.sourceElement, url, init.signal);
});

document.addEventListener("htmx:sse:before:connection", (event) => {
  const { url, visibilityHandler } = (event as CustomEvent).detail.connection;
  // htmx would give up the stream of a hidden page, and fetch another one without this adapter.
  if (isSubscription(url)) document.removeEventListener("visibilitychange", visibilityHandler);
});

/** An answer that never ends: the client connects again where the cursor is. */
function respond(element: Element, url: string, signal: AbortSignal): Response {
  const news = subscribe(url, [], { ...tell(element), signal });
  const events = news[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await events.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(written(value)));
    },
    cancel: () => news.close(),
  });
  return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
}

/** An event in the form of an event stream. htmx swaps those without a type. */
function written({ id, type, data }: MercureEvent): string {
  const typed = type === "message" ? "" : `event: ${type}\n`;
  return `${typed}id: ${id}\ndata: ${data.replaceAll("\n", "\ndata: ")}\n\n`;
}

/**
 * htmx 2 with its extension `sse`, and htmx 4 with `hx-sse`: the streams of a Mercure hub come from the client, so they
 * keep their cursor and outlast refusals. Attributes stay as they are, and so do streams that are not of a Mercure hub.
 * htmx must be `window.htmx`, as its script and a page's bundle make it.
 *
 * Cookies are sent, as the extension of htmx 2 does. The element of a stream tells of it: see {@link tell}.
 */

import { subscribe, type MercureEvent } from "../index.js";
import { MercureEventSource } from "./event-source.js";
import { tell } from "../page/tell.js";

/** A URL that subscribes on a Mercure hub, in either dialect. */
const isSubscription = (url: string) => /\W(topic|match\w*)=/.test(url);

/** Listens to an event of htmx. */
function on<Detail>(name: string, run: (detail: Detail, target: Element) => void): void {
  document.addEventListener(`htmx:${name}`, (event) => run((event as CustomEvent<Detail>).detail, event.target as Element));
}

// htmx 2

/** htmx 2, as far as this adapter needs it. Its extension `sse` takes sources from here. */
interface Htmx {
  createEventSource?: (url: string) => EventSource | MercureEventSource;
  process(element: Element): void;
}

const CONNECT = "[sse-connect]";
const DATA = "htmx-internal-data";

/** What htmx 2 keeps at an element: a hash of the attributes with which it was processed, and whether it has listened. */
interface Processed extends Element {
  [DATA]?: { initHash?: number; sseEventListener?: unknown };
}

/** The source of each element. */
const sources = new WeakMap<Element, MercureEventSource>();
let processed: Element;

on("afterProcessNode", (_, element) => {
  // htmx processes an element again when an attribute has changed, as a morph does. It has forgotten the former source by
  // then, which would go on and swap everything a second time.
  sources.get(element)?.close();
  // The extension makes the source right after this event.
  processed = element;
});

// The page that htmx keeps for the button "back" goes on from here, as it has everything that was swapped until now.
on("beforeHistorySave", () => {
  for (const element of document.querySelectorAll(CONNECT)) {
    const source = sources.get(element);
    // The client takes this name in both dialects, and the last cursor of a URL.
    const cursor = "&lastEventID=";
    if (source)
      element.setAttribute(
        "sse-connect",
        source.url.split(cursor)[0] + cursor + encodeURIComponent(source.subscription.lastEventId),
      );
  }
});

// When all scripts have run, wherever they stand, and before htmx begins with the same event.
addEventListener(
  "DOMContentLoaded",
  () => {
    const { htmx } = globalThis as { htmx?: Htmx };
    const other = htmx?.createEventSource;
    if (!other) return;
    htmx.createEventSource = (url) => {
      if (!isSubscription(url)) return other(url);
      const element = processed;
      // Elements inside that were not processed again listen to the former source.
      const inside = [...element.querySelectorAll<Processed>("*")].filter(
        (each) => each[DATA]?.sseEventListener && each.closest(CONNECT) === element,
      );
      queueMicrotask(() => {
        for (const each of inside) {
          delete each[DATA]!.initHash;
          htmx.process(each);
        }
      });
      const source = new MercureEventSource(url, tell(element));
      sources.set(element, source);
      return source;
    };
  },
  true,
);

// htmx 4

/** A request of htmx 4, as far as this adapter needs it. */
interface Context {
  sourceElement: Element;
  request: { action: string };
  fetch?: (url: string, init: { signal: AbortSignal }) => Promise<Response>;
}

/** A stream of `hx-sse`, as far as this adapter needs it. */
interface Connection {
  url: string;
  visibilityHandler: () => void;
}

on<{ ctx: Context }>("config:request", ({ ctx }) => {
  if (!isSubscription(ctx.request.action)) return;
  // An answer that lasts until htmx aborts the request, which it does for every stream that ends.
  ctx.fetch = async (url, { signal }) => {
    const events = subscribe(url, [], { ...tell(ctx.sourceElement), signal })[Symbol.asyncIterator]();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        const { done, value } = await events.next();
        if (done) controller.close();
        else controller.enqueue(new TextEncoder().encode(written(value)));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  };
});

on<{ connection: Connection }>("sse:before:connection", ({ connection }) => {
  // htmx would give up the stream of a hidden page, and fetch another one without this adapter.
  if (isSubscription(connection.url)) document.removeEventListener("visibilitychange", connection.visibilityHandler);
});

/** An event in the form of an event stream. htmx swaps those without a type. */
function written({ id, type, data }: MercureEvent): string {
  const typed = type === "message" ? "" : `event: ${type}\n`;
  return `${typed}id: ${id}\ndata: ${data.replaceAll("\n", "\ndata: ")}\n\n`;
}

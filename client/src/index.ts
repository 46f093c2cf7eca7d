/** Subscribes to a Mercure hub from a page. */

import { findFeed } from "./feed.js";
import type { Options } from "./options.js";
import { readUrl, type Topic } from "./selector.js";
import { Subscriber, type Subscription } from "./subscription.js";

export type { BackoffBounds } from "./backoff.js";
export type { Gap, MercureEvent, Refusal, State } from "./event.js";
export type { Options } from "./options.js";
export type { Protocol, Topic } from "./selector.js";
export type { Token } from "./stream.js";
export type { Subscription } from "./subscription.js";

/**
 * Subscribes to topics. The stream lasts until the subscription is closed: after every end and after every refusal the
 * client connects again, and continues behind the last event.
 *
 * ```js
 * const news = subscribe("/.well-known/mercure", "/news");
 * news.on("order-paid", (event) => show(event.json().total));
 * ```
 *
 * @param hub The URL of the hub, or of a subscription as `mercure_hub_url()` makes it. It may be relative to the page.
 * @param topics A topic or several, beside those of the URL.
 * @throws TypeError The URL cannot be parsed.
 */
export function subscribe<Events extends object = Record<string, unknown>>(
  hub: string | URL,
  topics: Topic | readonly Topic[] = [],
  options: Options = {},
): Subscription<Events> {
  const read = readUrl(hub, [topics ?? []].flat() as Topic[], options.protocol);
  const cursor = options.lastEventId ?? read.cursor;
  const feed = findFeed(read.hub, options);
  return new Subscriber(read.hub, read.selectors, cursor, options, feed) as Subscription<object> as Subscription<Events>;
}

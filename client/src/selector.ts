/** What selects topics: names, templates and patterns, and the URLs that ask a hub for them. */

/** A topic, in 0.x also a URI template or `*`; in 1.0 also a URL pattern. */
export type Topic = string | { readonly urlpattern: string };

/** The dialect of the Mercure protocol. */
export type Protocol = "0.x" | "1.0";

/** A query parameter that selects topics, as in a URL: its name and its value. */
export type Selector = readonly [name: string, value: string];

/** A hub, apart from what is subscribed to on it. */
export interface Hub {
  /** Its URL, without topics and without a cursor. */
  readonly url: string;
  readonly protocol: Protocol;
}

const CURSOR = /^last[-_]?event[-_]?id$/i;

/**
 * Takes a URL apart: that of a hub, or that of a subscription.
 *
 * @throws TypeError The URL cannot be parsed, its topics are of both dialects, or a topic is not of the dialect.
 */
export function readUrl(
  source: string | URL,
  topics: readonly Topic[],
  protocol?: Protocol,
): { hub: Hub; selectors: Selector[]; cursor: string | undefined } {
  const url = new URL(source, globalThis.document?.baseURI);
  const selectors: Selector[] = [];
  let cursor: string | undefined;
  for (const [name, value] of [...url.searchParams]) {
    const isSelector = /^(topic$|match)/.test(name);
    if (isSelector) selectors.push([name, value]);
    else if (CURSOR.test(name)) cursor = value || cursor;
    else continue;
    url.searchParams.delete(name);
  }
  url.hash = "";
  const isLegacy = selectors.some(([name]) => name === "topic");
  protocol ??= selectors.length && !isLegacy ? "1.0" : "0.x";
  if (selectors.some(([name]) => (name === "topic") !== (protocol === "0.x")))
    throw new TypeError(`the URL has parameters that are not of protocol ${protocol}: ${url}`);
  selectors.push(...topics.map((topic) => toSelector(topic, protocol)));
  return { hub: { url: url.href, protocol }, selectors: unique(selectors), cursor };
}

/** @throws TypeError A URL pattern in protocol 0.x. */
export function toSelector(topic: Topic, protocol: Protocol): Selector {
  if (typeof topic === "string") return [protocol === "0.x" ? "topic" : "match", topic];
  if (protocol === "0.x") throw new TypeError('URL patterns need the option protocol: "1.0"');
  return ["match_urlpattern", topic.urlpattern];
}

/** Without doubles, in an order that depends on nothing else. */
export function unique(selectors: readonly Selector[]): Selector[] {
  return [...new Map(selectors.map((selector) => [String(selector), selector]))].sort().map(([, selector]) => selector);
}

/** The URL that subscribes. The cursor stands in it, as a header field would make browsers ask for permission first. */
export function subscribeUrl(hub: Hub, selectors: readonly Selector[], cursor: string): string {
  const url = new URL(hub.url);
  for (const [name, value] of selectors) url.searchParams.append(name, value);
  if (cursor) url.searchParams.append(hub.protocol === "0.x" ? "lastEventID" : "last_event_id", cursor);
  url.searchParams.append("petasos-multiplex", "");
  return url.href;
}

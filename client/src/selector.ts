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

/**
 * Takes a URL apart: that of a hub, or that of a subscription.
 *
 * @throws TypeError The URL cannot be parsed.
 */
export function readUrl(
  source: string | URL,
  topics: readonly Topic[],
  protocol?: Protocol,
): { hub: Hub; selectors: Selector[]; cursor: string } {
  const url = new URL(source, globalThis.document?.baseURI ?? globalThis.location?.href);
  const selectors: Selector[] = [];
  let cursor = "";
  for (const [name, value] of [...url.searchParams]) {
    if (/^(topic$|match)/.test(name)) selectors.push([name, value]);
    else if (/^last[-_]?event[-_]?id$/i.test(name)) cursor = value || cursor;
    else continue;
    url.searchParams.delete(name);
  }
  url.hash = "";
  const isModern = selectors.some(([name]) => name !== "topic") || topics.some((topic) => typeof topic !== "string");
  protocol ??= isModern ? "1.0" : "0.x";
  selectors.push(...toSelectors(topics, protocol));
  return { hub: { url: url.href, protocol }, selectors: unique(selectors), cursor };
}

/** A hub of protocol 0.x refuses URL patterns. */
export function toSelectors(topics: readonly Topic[], protocol: Protocol): Selector[] {
  const name = protocol === "0.x" ? "topic" : "match";
  return topics.map((topic) => (typeof topic === "string" ? [name, topic] : ["match_urlpattern", topic.urlpattern]));
}

/** Whether topics can share a stream with others: updates say by which topics they came, not by which patterns. */
export function canMerge([name, value]: Selector): boolean {
  return name !== "match_urlpattern" && (name !== "topic" || value === "*" || !/[{*]/.test(value));
}

/** Without doubles, in an order that depends on nothing else. */
export function unique(selectors: readonly Selector[]): Selector[] {
  return [...new Map(selectors.map((selector) => [`${selector}`, selector])).values()].sort();
}

/** The URL that subscribes. The cursor stands in it, as a header field would make browsers ask for permission first. */
export function subscribeUrl(hub: Hub, selectors: readonly Selector[], cursor: string): string {
  const url = new URL(hub.url);
  const parameters: Selector[] = [...selectors];
  if (cursor) parameters.push([hub.protocol === "0.x" ? "lastEventID" : "last_event_id", cursor]);
  for (const [name, value] of [...parameters, ["petasos-multiplex", ""] as const]) url.searchParams.append(name, value);
  return url.href;
}

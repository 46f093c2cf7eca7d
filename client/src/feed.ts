/** All subscriptions of a page on one hub, and what the tabs of the origin tell each other about theirs. */

import type { Block } from "./parser.js";
import type { Options } from "./options.js";
import { canMerge, unique, type Hub, type Selector } from "./selector.js";
import { Shared, type Notice, type Owner } from "./shared.js";
import type { Token } from "./stream.js";
import type { Source, Subscriber } from "./subscription.js";
import { canShare, enterTabs, type TabListener, type Tabs } from "./tabs.js";

/** Topics of one subscription and the event after which it begins. */
type Want = readonly [selectors: readonly Selector[], cursor: string];

/** Which stream has which topics: the key of the stream for each set of topics. */
type Places = readonly (readonly [topics: string, key: string])[];

/** What tabs say to each other. */
type Message =
  | readonly ["notice", key: string, ...Notice]
  /** What this tab wants. */
  | readonly ["want", wants: readonly Want[]]
  /** This tab leads since then: what do the others want? */
  | readonly ["lead", since: number]
  /** The leading tab is there. */
  | readonly ["places", places: Places]
  /** A tab has ended. */
  | readonly ["gone", tab: string]
  | readonly ["renew" | "wake" | "ping"];

/** Tabs may have several versions of this file. This changes when messages do. */
const VERSION = 1;

/** The most topics that hubs take for one stream by default. */
const MERGED_MAX = 100;

/** A leading tab that says nothing for two to three of these times is replaced. In milliseconds. */
const PATIENCE = 10_000;

/** Other tabs are told of what comes at most once in this time, in milliseconds. */
const TELL_INTERVAL = 40;

/** All tabs wake at the same time. Once in this time is enough, in milliseconds. */
const WAKE_INTERVAL = 1000;

/** Events of a page that end its streams, begin them again, or may make a connection possible. */
const EVENTS = ["pagehide", "freeze", "pageshow", "resume", "online", "visibilitychange"];

/** What subscriptions with the same hub, credentials and token share. */
export interface Feed extends Source, Owner {
  readonly name: string;
  readonly token: Token | undefined;
}

/** Those that have subscriptions. */
const feeds = new Set<Feed>();

/** The feed for a subscription. */
export function findFeed(hub: Hub, { token, credentials, share }: Options): Feed {
  // A token in the URL is the page's own, too.
  const group = share ?? !(token || /[?&]authorization=/.test(hub.url));
  const url = typeof group === "string" ? hub.url.replace(/\?.*/, "") : hub.url;
  const isOwnOrigin = new URL(url).origin === globalThis.location?.origin;
  const cookies = credentials === "include" && isOwnOrigin ? "same-origin" : (credentials ?? "same-origin");
  // The extension names the user of the page: the streams of two users must not be one.
  const user = globalThis.document?.querySelector<HTMLMetaElement>('meta[name="mercure-user"]')?.content;
  const name = `petasos${VERSION} ${[url, hub.protocol, cookies, group, user]} `;
  return [...feeds].find((feed) => feed.name === name && feed.token === token) ?? openFeed(hub, name, !!group, token);
}

/** @param name Of the group of tabs that share. */
export function openFeed(hub: Hub, name: string, isShared: boolean, token?: Token): Feed {
  const members = new Set<Subscriber>();
  const lanes = new Map<string, Shared>();
  /** What the other tabs want. */
  const wants = new Map<string, readonly Want[]>();
  /** For each set of topics: the topics themselves, or a number for a stream that others share. */
  let places = new Map<string, string>();
  /** How often a set of topics was refused together with others. */
  const refusals = new Map<string, number>();
  /** The hub cannot tell topics apart. */
  let isPlain = false;
  let hasResigned = false;
  let since = 0;
  let woken = 0;
  let tabs: Tabs | undefined;
  /** The id of the leading tab: empty for a page that shares with none. */
  let leader: string | undefined;
  let isChanging = false;
  let isForced = false;
  let silence = 0;
  let timer: ReturnType<typeof setInterval> | undefined;

  /** Blocks that other tabs have not been told yet, of one stream. */
  let untold: [key: string, blocks: Block[]] | undefined;
  let told = 0;
  let telling: ReturnType<typeof setTimeout> | undefined;
  const flush = (): void => {
    clearTimeout(telling);
    telling = undefined;
    if (untold) tabs?.say(["notice", untold[0], "deliver", untold[1]]);
    untold = undefined;
    told = Date.now();
  };
  const tell = (...message: Message): void => {
    if (untold) flush();
    tabs?.say(message);
  };
  const isLeading = (): boolean => leader === (tabs?.id ?? "");
  const wake = (): void => {
    woken = Date.now();
    lanes.forEach((lane) => lane.wake());
  };
  const stop = (): void => lanes.forEach((lane) => lane.stop());

  // What the page does.

  const feed: Feed = {
    hub,
    name,
    token,
    // Those of the newest subscription.
    options: {},
    join(member) {
      feed.options = member.options;
      if (!members.size) {
        feeds.add(feed);
        for (const type of EVENTS) globalThis.addEventListener?.(type, happened, true);
        enter();
      }
      members.add(member);
      changed();
    },
    changed,
    leave(member) {
      member.move();
      members.delete(member);
      changed();
      if (members.size) return;
      for (const type of EVENTS) globalThis.removeEventListener?.(type, happened, true);
      exit();
      feeds.delete(feed);
    },
    renew() {
      isForced = isLeading();
      tell("renew");
      changed();
    },
    notify(...notice) {
      const [key, method, blocks] = notice;
      // A message to other tabs costs more than all the rest. Timers of hidden pages are late, so those wait for none.
      if (method !== "deliver" || globalThis.document?.visibilityState === "hidden") tell("notice", ...notice);
      else if (wants.size) {
        if (untold?.[0] !== key) flush();
        untold ??= [key, []];
        untold[1].push(...blocks);
        const wait = told + TELL_INTERVAL - Date.now();
        if (wait > 0) telling ??= setTimeout(flush, wait);
        else flush();
      }
      take(notice);
    },
    opened({ key, isMerged }, isMultiplex) {
      hasResigned = false;
      isPlain = !isMultiplex;
      const sets = setsOf(key);
      if (!isMultiplex && isMerged && sets.length > 1) {
        for (const [topics] of sets) places.set(topics, topics);
        changed();
        return false;
      }
      if (isMultiplex && !isMerged && sets[0]?.[1].every(canMerge) && (refusals.get(key) ?? 0) < 2) {
        // It is no topic of these that the hub refuses.
        places.delete(key);
        changed();
      }
      return true;
    },
    refused(lane) {
      const sets = setsOf(lane.key);
      if (!lane.isMerged || sets.length < 2) return;
      for (const [topics, selectors] of sets)
        if (!lane.covers({ selectors })) {
          places.set(topics, topics);
          refusals.set(topics, (refusals.get(topics) ?? 0) + 1);
        }
      changed();
    },
    unanswered() {
      if (hasResigned || !wants.size) return;
      hasResigned = true;
      tabs?.resign();
    },
  };

  function changed(): void {
    if (isChanging) return;
    isChanging = true;
    // Changes in one turn are one change, and the page may still set its listeners.
    queueMicrotask(() => {
      isChanging = false;
      update();
    });
  }

  // What happens to the page.

  function happened({ type }: Event): void {
    // A page that is frozen, or kept for the way back, leads no more.
    if (type === "pagehide" || type === "freeze") exit();
    else if (type === "pageshow" || type === "resume") enter();
    else if (type === "online" || document.visibilityState === "visible") {
      wake();
      tell("wake");
    }
  }

  function enter(): void {
    if (tabs || leader === "") return;
    if (isShared && canShare()) {
      tabs = enterTabs(name, listener);
      timer = setInterval(listen, PATIENCE);
    } else listener.lead();
    changed();
  }

  function exit(): void {
    tabs?.leave();
    tabs = undefined;
    leader = undefined;
    clearInterval(timer);
    clearTimeout(telling);
    telling = untold = undefined;
    stop();
    for (const lane of lanes.values()) lane.detach();
    for (const member of members) member.store();
    lanes.clear();
    wants.clear();
    places.clear();
  }

  /** The browser knows when a tab ends, not when it hangs. */
  function listen(): void {
    if (isLeading()) return;
    if (silence++ > 1) tabs?.steal();
    else tell("ping");
  }

  // What the tabs do.

  const listener: TabListener = {
    entered: changed,
    lead() {
      leader = tabs?.id ?? "";
      silence = 0;
      since = Date.now();
      tell("lead", since);
      for (const tab of wants.keys()) tabs?.watch(tab);
      changed();
    },
    follow() {
      leader = undefined;
      silence = 0;
      stop();
    },
    gone(tab) {
      wants.delete(tab);
      if (isLeading()) tell("gone", tab);
      changed();
    },
    denied() {
      tabs?.leave();
      tabs = undefined;
      isShared = false;
      listener.lead();
    },
    heard(from, message) {
      const [kind, ...what] = message as Message;
      if (kind === "want") {
        wants.set(from, what[0] as readonly Want[]);
        if (!isLeading()) return;
        tabs?.watch(from);
        changed();
      } else if (kind === "lead") {
        // One that was replaced may not know yet.
        if ((what[0] as number) < since) return;
        since = what[0] as number;
        listener.follow();
        leader = from;
        changed();
      } else if (isLeading()) {
        if (kind === "renew") feed.renew();
        else if (kind === "wake") Date.now() - woken > WAKE_INTERVAL && wake();
        else if (kind === "ping") {
          for (const lane of lanes.values()) lane.check();
          tell("places", [...places]);
        }
      } else if (kind === "gone") wants.delete(what[0] as string);
      else if (kind === "places" || kind === "notice") {
        leader ??= from;
        if (from !== leader) return;
        silence = 0;
        if (kind === "notice") return take(what);
        places = new Map(what[0] as Places);
        bring();
      }
    },
  };

  function take([key, method, ...what]: readonly unknown[]): void {
    const lane = laneOf(key as string);
    (lane[method as Notice[0]] as (...what: unknown[]) => void).apply(lane, what);
  }

  /** A stream that merges topics has a digit for its key. */
  function laneOf(key: string): Shared {
    const lane = lanes.get(key) ?? new Shared(key, key.length < 2, feed);
    lanes.set(key, lane);
    return lane;
  }

  const laneFor = (selectors: readonly Selector[]): Shared => laneOf(places.get(`${selectors}`) ?? "0");

  /** The sets of topics that all tabs want, by their text. */
  const allSets = (): Map<string, readonly Selector[]> => new Map(allWants().map(([selectors]) => [`${selectors}`, selectors]));

  /** Those that a stream has. */
  const setsOf = (key: string): (readonly [topics: string, selectors: readonly Selector[]])[] =>
    [...allSets()].filter(([topics]) => places.get(topics) === key);

  /** Finds a stream for each set of topics that has none. */
  function place(): void {
    const sets = allSets();
    for (const known of [places, refusals]) for (const topics of known.keys()) if (!sets.has(topics)) known.delete(topics);
    const topicsOf = new Map<string, Set<string>>();
    const join = (key: string, selectors: readonly Selector[]): Set<string> =>
      new Set([...(topicsOf.get(key) ?? []), ...selectors.map(String)]);
    // Those that have one stand first: they stay.
    for (const [topics, selectors] of [...sets].sort(([topics], [others]) => +places.has(others) - +places.has(topics))) {
      let key = places.get(topics);
      if (key === undefined) {
        const isApart = (isPlain && sets.size > 1) || !selectors.every(canMerge) || (refusals.get(topics) ?? 0) > 1;
        key = isApart ? topics : "0";
        while (!isApart && topicsOf.has(key) && join(key, selectors).size > MERGED_MAX) key = `${+key + 1}`;
        places.set(topics, key);
      }
      topicsOf.set(key, join(key, selectors));
    }
    tell("places", [...places]);
  }

  /** Brings the members to their streams. */
  function bring(): void {
    for (const member of members) {
      const { selectors, lane } = member;
      const home = laneFor(selectors);
      if (lane !== home && lane?.home !== home) member.move(home.waiting);
    }
    for (const lane of lanes.values()) lane.settle();
  }

  function ownWants(): Want[] {
    return [...members].map(({ selectors, lastEventId }) => [selectors, lastEventId]);
  }

  /** This tab's stand first: its cursors are newer than those that the others have said. */
  function allWants(): Want[] {
    return [...ownWants(), ...[...wants.values()].flat()];
  }

  /** Says what this tab wants, and opens what all want if it leads. */
  function update(): void {
    tell("want", ownWants());
    if (isLeading()) place();
    bring();
    if (!isLeading()) return;
    const wanted = allWants().map(([selectors, cursor]) => [laneFor(selectors), selectors, cursor] as const);
    for (const [key, lane] of lanes) {
      const own = wanted.filter(([other]) => other === lane);
      const selectors = unique(own.flatMap(([, selectors]) => selectors));
      lane.plan(selectors, own.find(([, , cursor]) => cursor)?.[2] ?? "", isForced);
      if (!selectors.length) lanes.delete(key);
    }
    isForced = false;
  }

  return feed;
}

/** All subscriptions of a page on one hub, and what the tabs of the origin tell each other about theirs. */

import type { Options } from "./options.js";
import { canMerge, unique, type Hub, type Selector } from "./selector.js";
import { Shared, type Notice, type Owner } from "./shared.js";
import type { Source, Subscriber } from "./subscription.js";
import { Tabs, type TabListener } from "./tabs.js";
import type { Token } from "./stream.js";

/** Topics of one subscription and the event after which it begins. */
type Want = readonly [selectors: readonly Selector[], cursor: string];

/** What tabs say to each other. */
type Message =
  | readonly ["notice", key: string, ...Notice]
  /** What this tab wants. */
  | readonly ["want", wants: readonly Want[]]
  /** This tab leads: what do the others want? */
  | readonly ["lead", streams: number]
  | readonly ["streams", streams: number]
  | readonly ["renew" | "wake" | "ping"];

/** Tabs may have several versions of this file. This changes when messages do. */
const VERSION = 1;

/** If a hub refuses topics together, they are spread over two streams, then over four, then each set gets its own. */
const STREAMS_MAX = 4;

/** A leading tab that says nothing for two to three of these times is replaced. In milliseconds. */
const PATIENCE = 10_000;

/** Events of a page that end its streams, begin them again, or may make a connection possible. */
const EVENTS = ["pagehide", "freeze", "pageshow", "resume", "online", "visibilitychange"];

const feeds = new Map<Token | undefined, Map<string, Feed>>();

export class Feed implements Source, Owner, TabListener {
  /** Those of the newest subscription. */
  options: Options = {};
  #members = new Set<Subscriber>();
  #lanes = new Map<string, Shared>();
  /** What each tab wants. */
  #wants = new Map<string, readonly Want[]>();
  /** Over how many streams topics are spread. 0: each set of topics has its own. */
  #streams = 1;
  #tabs: Tabs | undefined;
  #leader = "";
  #isThere = false;
  #hasEntered = false;
  #isLeading = false;
  #isChanging = false;
  #isForced = false;
  #silence = 0;
  #watch: ReturnType<typeof setInterval> | undefined;
  /** What the others were told last. */
  #said = "";

  constructor(
    readonly hub: Hub,
    readonly name: string | undefined,
    readonly onEmpty: () => void,
  ) {}

  /** The feed for a subscription. Subscriptions with different tokens share none. */
  static find(hub: Hub, { token, credentials, share }: Options): Feed {
    const ofToken = feeds.get(token) ?? new Map<string, Feed>();
    feeds.set(token, ofToken);
    // A token in the URL is the page's own, too.
    const group = share ?? !(token || /[?&]authorization=/.test(hub.url));
    const url = typeof group === "string" ? hub.url.replace(/\?.*/, "") : hub.url;
    const name = `petasos${VERSION} ${[url, hub.protocol, credentials, group]} `;
    const onEmpty = (): void => {
      ofToken.delete(name);
      if (!ofToken.size) feeds.delete(token);
    };
    const feed = ofToken.get(name) ?? new Feed(hub, group ? name : undefined, onEmpty);
    ofToken.set(name, feed);
    return feed;
  }

  // What the page does.

  join(subscriber: Subscriber): void {
    this.options = subscriber.options;
    this.#members.add(subscriber);
    if (this.#members.size === 1) {
      for (const type of EVENTS) globalThis.addEventListener?.(type, this);
      this.#enter();
    }
    this.changed();
  }

  changed(): void {
    if (this.#isChanging) return;
    this.#isChanging = true;
    // Changes in one turn are one change, and the page may still set its listeners.
    queueMicrotask(() => {
      this.#isChanging = false;
      if (this.#isThere) this.#update();
    });
  }

  leave(subscriber: Subscriber): void {
    subscriber.move();
    this.#members.delete(subscriber);
    this.changed();
    if (this.#members.size) return;
    for (const type of EVENTS) globalThis.removeEventListener?.(type, this);
    this.#exit();
    this.onEmpty();
  }

  renew(): void {
    this.#isForced = this.#isLeading;
    this.#tell("renew");
    this.changed();
  }

  // What happens to the page.

  handleEvent({ type }: Event): void {
    // A page that is frozen, or kept for the way back, leads no more.
    if (type === "pagehide" || type === "freeze") this.#exit();
    else if (type === "pageshow" || type === "resume") this.#enter();
    else if (type === "online" || document.visibilityState === "visible") {
      this.#wake();
      this.#tell("wake");
    }
  }

  #enter(): void {
    if (this.#isThere) return;
    this.#isThere = true;
    if (this.name && Tabs.areThere()) {
      this.#tabs = new Tabs(this.name, this);
      this.#watch = setInterval(() => this.#listen(), PATIENCE);
    } else this.lead();
    this.changed();
  }

  #exit(): void {
    this.#tabs?.leave();
    this.#tabs = undefined;
    this.#isThere = this.#isLeading = this.#hasEntered = false;
    this.#leader = this.#said = "";
    clearInterval(this.#watch);
    for (const lane of this.#lanes.values()) {
      lane.stop();
      lane.detach();
    }
    this.#lanes.clear();
    this.#wants.clear();
  }

  #wake(): void {
    for (const lane of this.#lanes.values()) lane.wake();
  }

  /** The browser knows when a tab ends, not when it hangs. */
  #listen(): void {
    if (this.#isLeading) return;
    if (this.#silence++ > 1) this.#tabs?.lead(true);
    else this.#tell("ping");
  }

  // What the tabs do.

  entered(): void {
    this.#hasEntered = true;
    this.changed();
  }

  lead(): void {
    this.#isLeading = true;
    this.#leader = this.#id;
    this.#tell("lead", this.#streams);
    for (const tab of this.#wants.keys()) this.#tabs?.watch(tab);
    this.changed();
  }

  follow(): void {
    this.#isLeading = false;
    for (const lane of this.#lanes.values()) lane.stop();
  }

  gone(tab: string): void {
    this.#wants.delete(tab);
    this.changed();
  }

  heard(from: string, message: unknown): void {
    const [kind, ...what] = message as Message;
    if (kind === "want") {
      this.#wants.set(from, what[0] as readonly Want[]);
      if (!this.#isLeading) return;
      this.#tabs?.watch(from);
      this.#tell("streams", this.#streams);
      this.changed();
    } else if (kind === "lead") {
      this.follow();
      this.#leader = from;
      this.#said = "";
      this.#spread(what[0] as number);
    } else if (this.#isLeading) {
      if (kind === "renew") this.renew();
      else if (kind === "wake") this.#wake();
      else this.#tell("streams", this.#streams);
    } else if (kind === "streams" || kind === "notice") {
      this.#leader ||= from;
      if (from !== this.#leader) return;
      this.#silence = 0;
      if (kind === "streams") this.#spread(what[0] as number);
      else this.#take(what);
    }
  }

  #tell(...message: Message): void {
    this.#tabs?.say(message);
  }

  notify(...notice: readonly [key: string, ...Notice]): void {
    this.#tell("notice", ...notice);
    this.#take(notice);
  }

  #take([key, method, ...what]: readonly unknown[]): void {
    const lane = this.#lane(key as string);
    (lane[method as Notice[0]] as (...what: unknown[]) => void).apply(lane, what);
  }

  /** Of this tab. */
  get #id(): string {
    return this.#tabs?.id ?? "";
  }

  #lane(key: string): Shared {
    const lane = this.#lanes.get(key) ?? new Shared(key, key.length < 2, this);
    this.#lanes.set(key, lane);
    return lane;
  }

  /** The stream for topics: a digit if it is merged, else the topics. */
  #laneFor(selectors: readonly Selector[]): Shared {
    const text = `${selectors}`;
    if (!this.#streams || !selectors.every(canMerge)) return this.#lane(text);
    const sum = [...text].reduce((sum, character) => sum + character.charCodeAt(0), 0);
    return this.#lane(`${sum % this.#streams}`);
  }

  /** Brings members to their streams, says what this tab wants, and opens that if it leads. */
  #update(): void {
    const own = new Map<string, Want>();
    for (const member of this.#members) {
      const { selectors, lastEventId } = member;
      if (!selectors.length) {
        member.move();
        continue;
      }
      const lane = this.#laneFor(selectors);
      if (member.lane !== lane && member.lane?.home !== lane) member.move(lane.waiting);
      const key = `${selectors}`;
      if (!own.get(key)?.[1]) own.set(key, [selectors, lastEventId]);
    }
    // Its cursors are newer than those that the others have said.
    const others = [...this.#wants].filter(([tab]) => tab !== this.#id);
    const wants = [...own.values()];
    this.#wants = new Map([[this.#id, wants], ...others]);
    const said = `${[...own.keys()]}`;
    if (this.#hasEntered && said !== this.#said) {
      this.#said = said;
      this.#tell("want", wants);
    }
    if (this.#isLeading) this.#plan();
    else for (const lane of this.#lanes.values()) lane.settle();
  }

  #plan(): void {
    const plans = new Map<Shared, { wanted: Selector[]; cursor: string }>();
    for (const [selectors, cursor] of [...this.#wants.values()].flat()) {
      const lane = this.#laneFor(selectors);
      const plan = plans.get(lane) ?? { wanted: [], cursor };
      plan.wanted.push(...selectors);
      plan.cursor ||= cursor;
      plans.set(lane, plan);
    }
    for (const [key, lane] of this.#lanes) {
      const { wanted = [], cursor = "" } = plans.get(lane) ?? {};
      lane.plan(unique(wanted), cursor, this.#isForced);
      if (!wanted.length) this.#lanes.delete(key);
    }
    this.#isForced = false;
  }

  separate({ isMerged }: Shared, isMultiplex: boolean): void {
    const sets = new Set([...this.#wants.values()].flat().map(([selectors]) => `${selectors}`));
    if (!isMerged || (isMultiplex && sets.size < 2)) return;
    const streams = isMultiplex && this.#streams < STREAMS_MAX ? this.#streams * 2 : 0;
    this.#tell("streams", streams);
    this.#spread(streams);
  }

  #spread(streams: number): void {
    if (streams !== this.#streams) {
      this.#streams = streams;
      this.#said = "";
      for (const [key, lane] of this.#lanes)
        if (lane.isMerged) {
          this.#lanes.delete(key);
          lane.key = `${lane.covered}`;
          lane.isMerged = !!streams;
          // It is the stream of these topics alone. If there were others, those leave it.
          if (!streams && lane.key) this.#lanes.set(lane.key, lane);
          else {
            lane.stop();
            lane.detach();
          }
        }
    }
    this.changed();
  }
}

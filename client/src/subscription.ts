/** A subscription as the page sees it. */

import type { Gap, MercureEvent, Refusal, State } from "./event.js";
import type { Lane } from "./lane.js";
import type { Options } from "./options.js";
import { toSelectors, unique, type Hub, type Selector, type Topic } from "./selector.js";

/**
 * Updates of some topics, from `subscribe()`. `Events` maps types of events to what their data is.
 *
 * As an AsyncIterable it yields every event of every type, from the first turn of the loop on. At most 1,000 events wait for
 * a slow loop: of more, the oldest are dropped, and `onGap` is told.
 */
export interface Subscription<Events extends object = Record<string, unknown>>
  extends AsyncIterable<MercureEvent<Events[keyof Events]>> {
  readonly state: State;
  /** The cursor: everything up to this event was heard. Empty: nothing is known. */
  readonly lastEventId: string;
  readonly topics: readonly Topic[];
  /**
   * Listens to events of a type: `message` for those to which the publisher gave none, `*` for all.
   *
   * @returns What stops it.
   */
  on<Type extends (keyof Events & string) | (string & {})>(
    type: Type,
    listener: (event: MercureEvent<Type extends keyof Events ? Events[Type] : unknown>) => void,
  ): () => void;
  /** More topics, from now on. The stream is not cut. */
  add(...topics: Topic[]): void;
  remove(...topics: Topic[]): void;
  /** Connects again with a new token or cookie. Nothing is lost. */
  renew(): void;
  close(): void;
}

/** What a subscription needs of the streams behind it. */
export interface Source {
  join(subscriber: Subscriber): void;
  /** Its selectors have changed. */
  changed(): void;
  leave(subscriber: Subscriber): void;
  /** Connects again with new credentials. */
  renew(): void;
}

/** Milliseconds. */
const STORE_DELAY = 250;

/** The most events that wait for a loop. */
const QUEUE_MAX = 1000;

/** More than streams overlap, with room. */
const HEARD_MAX = 1000;

/** A type that no event has: says that the subscription is closed. */
const CLOSE = "";

type Listener = (event: never) => void;

/** The side of a subscription that the streams see. */
export class Subscriber implements Subscription {
  state: State = "connecting";
  lastEventId: string;
  /** Where it hears from. */
  lane: Lane | undefined;
  /** The topics that it hears there. A topic that was added is heard when the lane has it. */
  accepted: readonly Selector[] = [];
  /** The last ids. Streams overlap. */
  readonly heard = new Set<string>();
  #listeners = new Set<readonly [type: string, listener: Listener]>();
  #storageKey: string;
  #storing: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly hub: Hub,
    public selectors: readonly Selector[],
    cursor: string,
    readonly options: Options,
    readonly source: Source,
  ) {
    this.#storageKey = `petasos ${hub.url} ${selectors}`;
    this.lastEventId = cursor || this.#stored() || "";
    const { signal } = options;
    source.join(this);
    if (signal?.aborted) this.close();
    signal?.addEventListener("abort", this.#abort);
  }

  /** Reads or writes. Pages may be forbidden to store anything, and the storage may be full: the cursor is then in memory only. */
  #stored(cursor?: string): string | null | void {
    if (this.options.cursor === "session")
      try {
        return cursor ? sessionStorage.setItem(this.#storageKey, cursor) : sessionStorage.getItem(this.#storageKey);
      } catch {
        // See above.
      }
  }

  get topics(): Topic[] {
    return this.selectors.map(([name, value]) => (name === "match_urlpattern" ? { urlpattern: value } : value));
  }

  on(type: string, listener: (event: MercureEvent<never>) => void): () => void {
    const entry = [type, listener] as const;
    this.#listeners.add(entry);
    return () => void this.#listeners.delete(entry);
  }

  add(...topics: Topic[]): void {
    this.#select([...this.selectors, ...toSelectors(topics, this.hub.protocol)]);
  }

  remove(...topics: Topic[]): void {
    const removed = toSelectors(topics, this.hub.protocol).map(String);
    const isKept = (selector: Selector): boolean => !removed.includes(`${selector}`);
    // What is on its way is not heard any more.
    this.accepted = this.accepted.filter(isKept);
    this.#select(this.selectors.filter(isKept));
  }

  #select(selectors: Selector[]): void {
    this.selectors = unique(selectors);
    this.source.changed();
  }

  renew(): void {
    this.source.renew();
  }

  #abort = (): void => this.close();

  close(): void {
    if (this.state === "closed") return;
    this.options.signal?.removeEventListener("abort", this.#abort);
    this.source.leave(this);
    this.store();
    this.enter("closed");
    this.#emit(CLOSE);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MercureEvent, undefined> {
    const queue: MercureEvent[] = [];
    let wake: (() => void) | undefined;
    let isTold = false;
    const push = (event: MercureEvent): void => {
      const dropped = queue.push(event) > QUEUE_MAX && queue.shift();
      if (dropped && !isTold) this.tell("onGap", { asked: dropped.id, answered: queue[0]?.id ?? "" });
      isTold ||= !!dropped;
      wake?.();
    };
    const stops = [this.on("*", push), this.on(CLOSE, () => wake?.())];
    try {
      for (;;) {
        while (queue[0]) yield queue.shift() as MercureEvent;
        isTold = false;
        if (this.state === "closed") return;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      for (const stop of stops) stop();
    }
  }

  /** Hears from this lane from now on, or from nowhere. */
  move(lane?: Lane): void {
    const before = this.lane;
    this.lane = lane;
    this.accepted = this.selectors;
    lane?.members.add(this);
    before?.members.delete(this);
    before?.left();
  }

  hear(event: MercureEvent): void {
    const { id, type } = event;
    // A listener that was called before may have closed the subscription.
    if (!this.lane || this.heard.has(id)) return;
    if (id) {
      this.lastEventId = id;
      const [oldest = ""] = this.heard.add(id);
      if (this.heard.size > HEARD_MAX) this.heard.delete(oldest);
    }
    this.tell("onEvent", event);
    this.#emit(type, event);
  }

  #emit(type: string, event?: MercureEvent): void {
    for (const [wanted, listener] of this.#listeners)
      if (wanted === type || (event && wanted === "*")) this.#call(listener, event);
  }

  /** Everything up to this event was heard. */
  moveTo(cursor: string): void {
    if (!cursor) return;
    this.lastEventId = cursor;
    // Not each time: it is slow.
    if (this.options.cursor === "session") this.#storing ??= setTimeout(() => this.store(), STORE_DELAY);
  }

  /** Stores the cursor now. */
  store(): void {
    clearTimeout(this.#storing);
    this.#storing = undefined;
    if (this.lastEventId) this.#stored(this.lastEventId);
  }

  enter(state: State): void {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    this.tell("onState", state);
  }

  /** Tells the page something. */
  tell(...what: ["onEvent", MercureEvent] | ["onGap", Gap] | ["onRefusal", Refusal] | ["onState", State]): void {
    const [name, value] = what;
    this.#call(this.options[name] as Listener | undefined, value);
  }

  /** An error of the page must not keep others from hearing. */
  #call(listener: Listener | undefined, value: unknown): void {
    try {
      listener?.(value as never);
    } catch (error) {
      // Node has no reportError.
      (globalThis.reportError ?? console.error)(error);
    }
  }
}

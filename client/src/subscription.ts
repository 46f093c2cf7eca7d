/** A subscription as the page sees it. */

import type { Gap, MercureEvent, Refusal, State } from "./event.js";
import type { Options } from "./options.js";
import { toSelector, unique, type Hub, type Selector, type Topic } from "./selector.js";

/**
 * Updates of some topics, from {@link subscribe}. `Events` maps types of events to what their data is.
 *
 * As an AsyncIterable it yields every event of every type. Events wait for a slow loop, at most {@link QUEUE_MAX} of them:
 * of more, the oldest are dropped, and `onGap` is told.
 */
export interface Subscription<Events extends object = Record<string, unknown>>
  extends AsyncIterable<MercureEvent<Events[keyof Events]>> {
  readonly state: State;
  /** The cursor: the id behind which nothing has been heard yet. Empty: nothing is known. */
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
  changed(subscriber: Subscriber): void;
  leave(subscriber: Subscriber): void;
  renew(): void;
}

/** The most events that wait for a loop. */
export const QUEUE_MAX = 1000;

type Listener = (event: MercureEvent<never>) => void;

/** The side of a subscription that the streams see. */
export class Subscriber implements Subscription {
  state: State = "connecting";
  lastEventId: string;
  #listeners = new Map<string, Set<Listener>>();
  #queues = new Set<Queue>();
  #selectors: Selector[];
  #storageKey: string;

  constructor(
    readonly hub: Hub,
    selectors: Selector[],
    cursor: string | undefined,
    readonly options: Options,
    readonly source: Source,
  ) {
    this.#selectors = selectors;
    this.#storageKey = `petasos:${hub.url} ${String(selectors)}`;
    this.lastEventId = cursor || (options.cursor === "session" && storage()?.getItem(this.#storageKey)) || "";
    const { signal } = options;
    source.join(this);
    if (signal?.aborted) this.close();
    signal?.addEventListener("abort", () => this.close(), { once: true });
  }

  get selectors(): readonly Selector[] {
    return this.#selectors;
  }

  get topics(): Topic[] {
    return this.#selectors.map(([name, value]) => (name === "match_urlpattern" ? { urlpattern: value } : value));
  }

  on(type: string, listener: Listener): () => void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  add(...topics: Topic[]): void {
    this.#select([...this.#selectors, ...topics.map((topic) => toSelector(topic, this.hub.protocol))]);
  }

  remove(...topics: Topic[]): void {
    const removed = topics.map((topic) => String(toSelector(topic, this.hub.protocol)));
    this.#select(this.#selectors.filter((selector) => !removed.includes(String(selector))));
  }

  #select(selectors: Selector[]): void {
    this.#selectors = unique(selectors);
    if (this.state !== "closed") this.source.changed(this);
  }

  renew(): void {
    this.source.renew();
  }

  close(): void {
    if (this.state === "closed") return;
    this.source.leave(this);
    this.enter("closed");
    this.#listeners.clear();
    for (const queue of this.#queues) queue.end();
  }

  [Symbol.asyncIterator](): AsyncIterator<MercureEvent> {
    const queue = new Queue(
      (gap) => this.tellGap(gap),
      () => this.#queues.delete(queue),
    );
    if (this.state === "closed") queue.end();
    else this.#queues.add(queue);
    return queue;
  }

  /** An event, which the subscription has not heard before. */
  hear(event: MercureEvent): void {
    if (this.state === "closed") return;
    const { onEvent } = this.options;
    call(onEvent, event);
    for (const type of [event.type, "*"])
      for (const listener of this.#listeners.get(type) ?? []) call(listener as (event: MercureEvent) => void, event);
    for (const queue of this.#queues) queue.push(event);
  }

  /** Everything up to this id has been heard. */
  moveTo(cursor: string): void {
    if (!cursor || cursor === this.lastEventId) return;
    this.lastEventId = cursor;
    if (this.options.cursor === "session") storage()?.setItem(this.#storageKey, cursor);
  }

  enter(state: State): void {
    if (this.state === state || this.state === "closed") return;
    this.state = state;
    call(this.options.onState, state);
  }

  tellGap(gap: Gap): void {
    call(this.options.onGap, gap);
  }

  tellRefusal(refusal: Refusal): void {
    call(this.options.onRefusal, refusal);
  }
}

/** An error of the page must not keep others from hearing. */
function call<Value>(listener: ((value: Value) => void) | undefined, value: Value): void {
  try {
    listener?.(value);
  } catch (error) {
    // Node has no reportError.
    (globalThis.reportError ?? console.error)(error);
  }
}

/** Pages may be forbidden to store anything, and the storage may be full. */
function storage(): Pick<Storage, "getItem" | "setItem"> | undefined {
  try {
    const { sessionStorage } = globalThis;
    return {
      getItem: (key) => sessionStorage.getItem(key),
      setItem: (key, value) => {
        try {
          sessionStorage.setItem(key, value);
        } catch {
          // The cursor is then in memory only.
        }
      },
    };
  } catch {
    return undefined;
  }
}

/** Events that wait for one loop. */
class Queue implements AsyncIterator<MercureEvent> {
  #waiting: MercureEvent[] = [];
  #wanted: ((result: IteratorResult<MercureEvent>) => void)[] = [];
  #isOver = false;

  constructor(
    readonly onGap: (gap: Gap) => void,
    readonly onEnd: () => void,
  ) {}

  push(event: MercureEvent): void {
    const wanted = this.#wanted.shift();
    if (wanted) return wanted({ value: event, done: false });
    this.#waiting.push(event);
    if (this.#waiting.length <= QUEUE_MAX) return;
    const dropped = this.#waiting.shift();
    this.onGap({ asked: dropped?.id ?? "", answered: this.#waiting[0]?.id ?? "" });
  }

  end(): void {
    this.#isOver = true;
    for (const wanted of this.#wanted.splice(0)) wanted({ value: undefined, done: true });
    this.onEnd();
  }

  next(): Promise<IteratorResult<MercureEvent>> {
    const value = this.#waiting.shift();
    if (value) return Promise.resolve({ value, done: false });
    if (this.#isOver) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve) => this.#wanted.push(resolve));
  }

  return(): Promise<IteratorResult<MercureEvent>> {
    this.#waiting = [];
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }
}

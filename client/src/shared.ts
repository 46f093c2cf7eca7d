/** The stream that all tabs hear, as each of them sees it. In the leading tab it also has the connection. */

import { CatchUp } from "./catch-up.js";
import type { Refusal, State } from "./event.js";
import { Lane } from "./lane.js";
import type { Block } from "./parser.js";
import type { Hub, Selector } from "./selector.js";
import { openStream, type Connecting, type News, type Stream, type StreamListener } from "./stream.js";
import type { Subscriber } from "./subscription.js";

/** What the leading tab says about a stream: a method of {@link Shared} and its arguments. */
export type Notice =
  | readonly ["learn", ...Parameters<Shared["learn"]>]
  | readonly ["deliver", blocks: readonly Block[]]
  | readonly ["announce", ...Parameters<Shared["announce"]>];

/** What a stream needs of its owner. */
export interface Owner {
  readonly hub: Hub;
  options: Connecting;
  /** It plans anew. */
  changed(): void;
  /** Tells all tabs, this one included. */
  notify(key: string, ...notice: Notice): void;
  /** A stream is open. Returns whether all of its members may hear it. */
  opened(lane: Shared, isMultiplex: boolean): boolean;
  /** The hub refuses what a stream asks for, which may be because of one topic. */
  refused(lane: Shared): void;
  /** This tab gets no answer. */
  unanswered(): void;
}

/** A stream that brings more than is wanted is replaced after this time, in milliseconds: topics often come back. */
const NARROW_DELAY = 3000;

/** After so many attempts without any answer another tab tries: something of this one may keep it from the hub. */
const UNANSWERED_MAX = 2;

export class Shared extends Lane implements StreamListener {
  readonly catchUps = new Set<CatchUp>();
  /** Members that hear nothing yet. */
  readonly waiting = new Lane(false, this);
  /** The topics that it brings. */
  covered: readonly Selector[] = [];
  #isLive = false;
  #state: State = "connecting";
  #current: Stream | undefined;
  /** A stream with other topics, which will take the place of the current one. */
  #next: Stream | undefined;
  /** The last event that the stream before has brought. Topics that were added are heard behind it, for the sake of order. */
  #ahead: string | undefined;
  #narrowing: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly key: string,
    isMerged: boolean,
    readonly owner: Owner,
  ) {
    super(isMerged);
  }

  // In every tab.

  /**
   * How the stream is.
   *
   * @param before Everything up to here has come.
   * @param cursor For all that is covered, everything after it comes. It may be older.
   * @param isLive The stream has brought everything that the hub had: what comes now is new.
   */
  learn(before: string, cursor: string, covered: readonly Selector[], isLive: boolean, state: State): void {
    // Something has not come here: a leading tab that has ended told others more than this one.
    if (this.position && this.position !== before) this.detach();
    this.position = cursor;
    this.covered = covered;
    this.#isLive = isLive;
    this.#state = state;
    for (const member of this.members)
      if (isLive && this.covers(member)) member.accepted = member.selectors;
      // A new leading tab did not know yet what this one wants.
      else if (covered.length && !includes(covered, member.accepted)) member.move(this.waiting);
    this.enterAll(state);
    this.settle();
  }

  override deliver(blocks: readonly Block[]): void {
    super.deliver(blocks);
    this.settle();
  }

  override take(block: Block): void {
    super.take(block);
    for (const catchUp of this.catchUps) catchUp.offer(block);
  }

  /** Tells members something: those that hear from here, and those that wait. */
  announce(toMembers: boolean, toWaiting: boolean, ...what: Parameters<Lane["tellAll"]>): void {
    if (toMembers) this.tellAll(...what);
    if (!toWaiting) return;
    this.waiting.tellAll(...what);
    if (!toMembers) for (const member of this.members) if (!this.covers(member)) member.tell(...what);
  }

  /** Lets members begin for which the stream has all that they need. */
  settle(): void {
    const behind = new Map<string, Subscriber[]>();
    for (const member of this.waiting.members) {
      const cursor = member.lastEventId;
      if (!this.covers(member)) member.enter(this.#state === "open" ? "connecting" : this.#state);
      else if (cursor ? cursor === this.position : this.#isLive) this.welcome(member);
      else if (this.#isLive) behind.set(cursor, [...(behind.get(cursor) ?? []), member]);
    }
    for (const members of behind.values()) new CatchUp(this, members, this.owner.hub, this.owner.options);
  }

  /** The member hears from here from now on. */
  welcome(member: Subscriber): void {
    if (!this.covers(member)) return member.move(this.waiting);
    member.move(this);
    member.moveTo(this.position);
    member.enter(this.#state);
  }

  covers({ selectors }: Pick<Subscriber, "selectors">): boolean {
    return includes(this.covered, selectors);
  }

  /** All members wait again, each with its cursor. */
  detach(): void {
    for (const { members } of [this, ...this.catchUps]) for (const member of members) member.move(this.waiting);
  }

  // In the leading tab.

  /**
   * Opens what is wanted.
   *
   * @param cursor Where it begins, if nothing has come yet.
   * @param isForced Anew, though it is open.
   */
  plan(wanted: readonly Selector[], cursor: string, isForced: boolean): void {
    if (!this.#current) this.position ||= cursor;
    const planned = (this.#next ?? this.#current)?.selectors ?? [];
    clearTimeout(this.#narrowing);
    const { state, selectors = [] } = this.#current ?? {};
    // What was wanted beside is wanted no more.
    if (this.#next && state === "open" && includes(selectors, wanted) && !includes(wanted, this.#next.selectors)) {
      this.#next.close();
      this.#next = undefined;
    }
    if (!wanted.length) this.stop();
    else if (isForced || !includes(planned, wanted)) this.#open(wanted);
    else if (wanted.length < planned.length) this.#narrowing = setTimeout(() => this.#open(wanted), NARROW_DELAY);
    this.changed();
  }

  #open(wanted: readonly Selector[]): void {
    const { hub, options } = this.owner;
    const last = this.#next ?? this.#current;
    // What the hub has said about the next attempt counts for other topics, too. When it is open, it is planned anew.
    if (last && last.state !== "open") {
      if (last.state !== "connecting") last.retarget(wanted);
      return;
    }
    this.#next = openStream(hub, wanted, this.position, options, this);
    if (!this.#current) this.#replace();
  }

  #replace(): void {
    this.#current?.close();
    this.#current = this.#next;
    this.#next = undefined;
  }

  /** This tab leads no more, or nobody wants the stream. */
  stop(): void {
    clearTimeout(this.#narrowing);
    this.#replace();
    this.#replace();
  }

  wake(): void {
    for (const stream of [this.#current, this.#next, ...this.catchUps]) stream?.wake();
  }

  check(): void {
    for (const stream of [this.#current, this.#next, ...this.catchUps]) stream?.check();
  }

  changed(stream?: Stream): void {
    const isOpen = stream?.state === "open";
    if (isOpen && stream === this.#next) {
      if (stream.cursor === this.position) this.#ahead = undefined;
      this.#replace();
    }
    const { cursor = this.position, isMultiplex, selectors = [], isLive = false, state = "connecting", unanswered = 0 } =
      this.#current ?? {};
    const isForAll = isMultiplex !== undefined && (state !== "open" || this.owner.opened(this, isMultiplex));
    this.owner.notify(this.key, "learn", this.position, cursor, isForAll ? selectors : [], isLive && !this.#ahead, state);
    if (isOpen) this.owner.changed();
    if (unanswered > UNANSWERED_MAX) this.owner.unanswered();
  }

  received(stream: Stream, blocks: Block[]): void {
    if (stream !== this.#current) return;
    if (this.#next) {
      // A stream that waits for its turn begins behind what has come. One that is on its way has to catch up.
      if (this.#next.state !== "connecting") this.#next.cursor = stream.cursor;
      for (const { id, data } of blocks) if (data !== undefined) this.#ahead = id;
    }
    // A cursor in place of a keep-alive: nothing older comes.
    const hasPassed = ({ id, data }: Block): boolean => id === this.#ahead || (stream.isLive && data === undefined);
    const passed = this.#ahead && !this.#next ? blocks.findIndex(hasPassed) + 1 : 0;
    this.owner.notify(this.key, "deliver", passed ? blocks.slice(0, passed) : blocks);
    if (!passed) return;
    this.#ahead = undefined;
    this.changed();
    if (blocks[passed]) this.received(stream, blocks.slice(passed));
  }

  told(stream: Stream, ...news: News): void {
    const [name, { status, willRetry }] = news as readonly [string, Partial<Refusal>];
    this.owner.notify(this.key, "announce", stream === this.#current, name !== "onGap", ...news);
    // Together the topics may be too many, or one of them is no good.
    if (willRetry && [400, 413, 414, 431].includes(status ?? 0)) this.owner.refused(this);
  }
}

function includes(all: readonly Selector[], some: readonly Selector[]): boolean {
  const texts = new Set(all.map(String));
  return some.every((selector) => texts.has(`${selector}`));
}

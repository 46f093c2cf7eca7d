/** A stream for members whose cursor is older than the shared stream, until both have met. */

import { Lane } from "./lane.js";
import type { Block } from "./parser.js";
import { unique, type Hub } from "./selector.js";
import { openStream, type Connecting, type News, type Stream, type StreamListener } from "./stream.js";
import type { Subscriber } from "./subscription.js";

/** The shared stream, as far as it matters here. */
interface Meeting extends Lane {
  readonly catchUps: Set<CatchUp>;
  welcome(member: Subscriber): void;
}

/** More than comes while a stream is opened. What is dropped comes on the own stream. */
const WAITING_MAX = 1000;

/** The longest that the shared stream may be behind, in milliseconds. */
const PATIENCE = 2000;

export class CatchUp extends Lane implements StreamListener {
  /** Events of the shared stream for these members, in their order. */
  #queue: Block[] = [];
  #stream: Stream;
  #patience: ReturnType<typeof setTimeout> | undefined;

  /**
   * The shared stream must be open with the topics of all members, and live: what it brings from now on is newer than
   * the cursor of the members.
   *
   * @param members At least one; all have the same cursor.
   */
  constructor(
    readonly shared: Meeting,
    members: readonly Subscriber[],
    hub: Hub,
    options: Connecting,
  ) {
    super(shared.isMerged, shared);
    shared.catchUps.add(this);
    for (const member of members) {
      this.position = member.lastEventId;
      member.move(this);
    }
    const selectors = unique(members.flatMap(({ accepted }) => accepted));
    this.#stream = openStream(hub, selectors, this.position, options, this);
  }

  /** Something came on the shared stream. */
  offer(block: Block): void {
    if (this.#isHeard(block) || (block.id && block.id === this.position)) this.#join();
    else if (this.membersFor(block)[0] && this.#queue.push(block) > WAITING_MAX) this.#queue.shift();
  }

  #isHeard = (block: Block): boolean => {
    const members = this.membersFor(block);
    return !!members[0] && members.every(({ heard }) => heard.has(block.id ?? ""));
  };

  close(): void {
    clearTimeout(this.#patience);
    this.#stream.close();
    this.shared.catchUps.delete(this);
  }

  wake(): void {
    this.#stream.wake();
  }

  check(): void {
    this.#stream.check();
  }

  override left(): void {
    if (!this.members.size) this.close();
  }

  /** Both streams have met. */
  #join(rest: Block[] = []): void {
    super.deliver(rest);
    // The shared stream may be behind. Members know what they have heard.
    for (const member of this.members) this.shared.welcome(member);
  }

  changed({ isLive, isMultiplex, state }: Stream): void {
    this.enterAll(state);
    // They meet with the next event. If none comes, the shared stream is not behind any more: what waits is older.
    if (isLive && isMultiplex) this.#patience ??= setTimeout(() => this.#join(), PATIENCE);
  }

  received(_stream: Stream, blocks: Block[]): void {
    super.deliver(blocks);
    // Events in the queue before one that has come here are older than the cursor, or have come here, too.
    const met = this.#queue.findLastIndex(this.#isHeard);
    if (met >= 0 || this.position === this.shared.position) this.#join(met < 0 ? [] : this.#queue.slice(met + 1));
  }

  told(_stream: Stream, ...news: News): void {
    this.tellAll(...news);
  }
}

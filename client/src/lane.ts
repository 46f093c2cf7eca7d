/** Updates that come together, and the subscriptions that hear them. */

import { toEvent, type State } from "./event.js";
import type { Block } from "./parser.js";
import type { Subscriber } from "./subscription.js";

export class Lane {
  /** Everything up to here has come. */
  position = "";
  readonly members = new Set<Subscriber>();

  /**
   * @param isMerged Updates are for those members that have one of their topics, and not for all.
   * @param home The stream that all tabs hear, which members reach in the end.
   */
  constructor(
    public isMerged: boolean,
    readonly home?: Lane,
  ) {}

  deliver(blocks: readonly Block[]): void {
    for (const block of blocks) {
      this.position = block.id || this.position;
      this.take(block);
    }
    for (const member of this.members) member.moveTo(this.position);
  }

  take(block: Block): void {
    const members = this.membersFor(block);
    if (!members.length) return;
    const event = toEvent(block);
    for (const member of members) member.hear(event);
  }

  /** The members that a block is for. */
  membersFor({ topics, data }: Block): Subscriber[] {
    if (data === undefined) return [];
    // A hub that names no topics has only one stream for each set of them.
    const isForAll = !this.isMerged || !topics.length;
    const isWanted = ([, topic]: Subscriber["accepted"][number]): boolean => topic === "*" || topics.includes(topic);
    return [...this.members].filter(({ accepted }) => isForAll || accepted.some(isWanted));
  }

  /** A member has left. */
  left(): void {}

  enterAll(state: State): void {
    for (const member of this.members) member.enter(state);
  }

  tellAll(...what: Parameters<Subscriber["tell"]>): void {
    for (const member of this.members) member.tell(...what);
  }
}

/** One stream for one subscription. */

import { toEvent, type Gap, type Refusal } from "./event.js";
import type { Block } from "./parser.js";
import { Recent } from "./recent.js";
import { Stream, type StreamListener } from "./stream.js";
import type { Source, Subscriber } from "./subscription.js";

export class Direct implements Source, StreamListener {
  #stream: Stream | undefined;
  #next: Stream | undefined;
  #subscriber: Subscriber | undefined;
  #recent = new Recent();

  join(subscriber: Subscriber): void {
    this.#subscriber = subscriber;
    // The page may still set its listeners.
    queueMicrotask(() => this.#open());
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    globalThis.addEventListener?.("online", this.#wake);
  }

  changed(): void {
    this.#open();
  }

  renew(): void {
    this.#open();
  }

  leave(): void {
    this.#next?.close();
    this.#stream?.close();
    this.#subscriber = undefined;
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
    globalThis.removeEventListener?.("online", this.#wake);
  }

  #open(): void {
    const subscriber = this.#subscriber;
    if (!subscriber) return;
    this.#next?.close();
    this.#next = undefined;
    if (!subscriber.selectors.length) {
      this.#stream?.close();
      this.#stream = undefined;
      return;
    }
    const cursor = this.#stream?.cursor ?? subscriber.lastEventId;
    const next = new Stream(subscriber.hub, subscriber.selectors, cursor, subscriber.options, this);
    if (this.#stream) this.#next = next;
    else this.#stream = next;
  }

  #wake = (): void => {
    if (globalThis.document?.visibilityState === "hidden") return;
    this.#stream?.wake();
    this.#next?.wake();
  };

  begun(stream: Stream): void {
    if (stream !== this.#next) return;
    this.#stream?.close();
    this.#stream = stream;
    this.#next = undefined;
    this.#subscriber?.enter(stream.state);
  }

  live(): void {}

  received(_stream: Stream, blocks: Block[]): void {
    for (const block of blocks) {
      if (block.data !== undefined && this.#recent.isNew(block.id)) this.#subscriber?.hear(toEvent(block));
      this.#subscriber?.moveTo(block.id ?? "");
    }
  }

  stateChanged(stream: Stream): void {
    if (stream === this.#stream) this.#subscriber?.enter(stream.state);
  }

  gap(_stream: Stream, gap: Gap): void {
    this.#subscriber?.tellGap(gap);
  }

  refused(_stream: Stream, refusal: Refusal): void {
    this.#subscriber?.tellRefusal(refusal);
  }
}

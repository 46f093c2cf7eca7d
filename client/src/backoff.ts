/** How long the client waits before it connects again. */

/** The bounds of the waiting time, in milliseconds. */
export interface BackoffBounds {
  /** The longest wait before the first attempt; the hub's field `retry` takes its place. Default: 1,000. */
  readonly initial?: number;
  /** The longest wait before any attempt. Default: 30,000. */
  readonly max?: number;
  /** The longest `Retry-After` that is honoured. Default: 300,000. */
  readonly retryAfterMax?: number;
}

/** Doubles with each failure. Full jitter: clients that were cut off together do not come back together. */
export class Backoff {
  #failures = 0;

  constructor(readonly bounds: BackoffBounds) {}

  /** After a stream that was worth something. */
  reset(): void {
    this.#failures = 0;
  }

  get failures(): number {
    return this.#failures;
  }

  /**
   * Milliseconds until the next attempt.
   *
   * @param retry The hub's field `retry`.
   * @param factor How many times longer than usual, for answers that hardly change by themselves.
   */
  next(retry: number | undefined, factor = 1): number {
    const { initial = 1000, max = 30_000 } = this.bounds;
    const longest = Math.min(max, (retry ?? initial) * 2 ** this.#failures++) * factor;
    return factor > 1 ? longest * (0.5 + Math.random() / 2) : longest * Math.random();
  }

  /** Milliseconds that the field `Retry-After` asks for: seconds or a date (RFC 9110). 0: it asks for nothing. */
  retryAfter(value: string | null): number {
    if (!value) return 0;
    const milliseconds = /^\s*\d+\s*$/.test(value) ? +value * 1000 : Date.parse(value) - Date.now();
    return Math.min(Math.max(milliseconds || 0, 0), this.bounds.retryAfterMax ?? 300_000);
  }
}

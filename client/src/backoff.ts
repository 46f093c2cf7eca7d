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

/**
 * Milliseconds until the next attempt. They double with each failure, with full jitter: clients that were cut off together
 * do not come back together.
 *
 * @param failures How many attempts have failed before.
 * @param retry The hub's field `retry`.
 * @param isSlow Five times longer than usual, for answers that hardly change by themselves.
 */
export function pauseAfter(bounds: BackoffBounds, failures: number, retry?: number, isSlow = false): number {
  const longest = Math.min(bounds.max ?? 30_000, (retry ?? bounds.initial ?? 1000) * 2 ** failures);
  return isSlow ? longest * (2.5 + 2.5 * Math.random()) : longest * Math.random();
}

/** Milliseconds that the field `Retry-After` asks for: seconds or a date (RFC 9110). 0: it asks for nothing. */
export function retryAfter(bounds: BackoffBounds, value: string | null): number {
  // A number alone would be read as a year.
  const milliseconds = /\D/.test((value ??= "").trim()) ? Date.parse(value) - Date.now() : +value * 1000;
  return Math.min(Math.max(milliseconds || 0, 0), bounds.retryAfterMax ?? 300_000);
}

import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff } from "../src/backoff.js";

function longest(backoff: Backoff, count: number, retry?: number): number[] {
  const { random } = Math;
  Math.random = () => 1;
  try {
    return Array.from({ length: count }, () => backoff.next(retry));
  } finally {
    Math.random = random;
  }
}

test("the wait doubles up to a bound, begins with the hub's retry, and begins anew after a good stream", () => {
  const backoff = new Backoff({});
  assert.deepEqual(longest(backoff, 7), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  backoff.reset();
  assert.deepEqual(longest(backoff, 3, 2900), [2900, 5800, 11_600]);
  assert.deepEqual(longest(new Backoff({ initial: 10, max: 30 }), 4), [10, 20, 30, 30]);
});

test("all of the wait is jitter, and an answer that hardly changes is asked for less often", () => {
  for (let count = 0; count < 200; count++) {
    const usual = new Backoff({}).next(undefined);
    assert.ok(usual >= 0 && usual < 1000);
    const slow = new Backoff({}).next(undefined, 5);
    assert.ok(slow >= 2500 && slow <= 5000);
  }
});

test("Retry-After is read as seconds and as a date, and bounded", () => {
  const backoff = new Backoff({});
  const cases = [[null, 0], ["", 0], ["7", 7000], [" 7 ", 7000], ["soon", 0], ["-5", 0], ["99999999", 300_000]] as const;
  for (const [value, expected] of cases) assert.equal(backoff.retryAfter(value), expected, `${value}`);
  const date = backoff.retryAfter(new Date(Date.now() + 60_000).toUTCString());
  assert.ok(date > 58_000 && date <= 60_000, `${date}`);
  assert.equal(backoff.retryAfter(new Date(0).toUTCString()), 0);
  assert.equal(new Backoff({ retryAfterMax: 10 }).retryAfter("7"), 10);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { pauseAfter, retryAfter, type BackoffBounds } from "../src/backoff.js";

function longest(bounds: BackoffBounds, count: number, retry?: number): number[] {
  const { random } = Math;
  Math.random = () => 1;
  try {
    return Array.from({ length: count }, (_, failures) => pauseAfter(bounds, failures, retry));
  } finally {
    Math.random = random;
  }
}

test("the wait doubles up to a bound, and begins with the hub's retry", () => {
  assert.deepEqual(longest({}, 7), [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.deepEqual(longest({}, 3, 2900), [2900, 5800, 11_600]);
  assert.deepEqual(longest({ initial: 10, max: 30 }, 4), [10, 20, 30, 30]);
});

test("all of the wait is jitter, and an answer that hardly changes is asked for less often", () => {
  for (let count = 0; count < 200; count++) {
    const usual = pauseAfter({}, 0);
    assert.ok(usual >= 0 && usual < 1000);
    const slow = pauseAfter({}, 0, undefined, true);
    assert.ok(slow >= 2500 && slow <= 5000);
  }
});

test("Retry-After is read as seconds and as a date, and bounded", () => {
  const cases = [[null, 0], ["", 0], ["7", 7000], [" 7 ", 7000], ["soon", 0], ["-5", 0], ["99999999", 300_000]] as const;
  for (const [value, expected] of cases) assert.equal(retryAfter({}, value), expected, `${value}`);
  const date = retryAfter({}, new Date(Date.now() + 60_000).toUTCString());
  assert.ok(date > 58_000 && date <= 60_000, `${date}`);
  assert.equal(retryAfter({}, new Date(0).toUTCString()), 0);
  assert.equal(retryAfter({ retryAfterMax: 10 }, "7"), 10);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { createParser, type Block } from "../src/parser.js";

const ENCODER = new TextEncoder();

function parse(parts: Uint8Array[], sizeMax = 1000): { blocks: Block[]; retry: number | undefined } {
  const parser = createParser(sizeMax);
  return { blocks: parts.flatMap((part) => parser.push(part)), retry: parser.retry };
}

function blocks(text: string, sizeMax?: number): Block[] {
  return parse([ENCODER.encode(text)], sizeMax).blocks;
}

function data(text: string): (string | undefined)[] {
  return blocks(text).map((block) => block.data);
}

test("fields are read as the standard says", () => {
  assert.deepEqual(blocks("event: paid\nid: 7\ndata: a\ndata:b\ndata:  c\ndata\nunknown: x\n\n"), [
    { id: "7", type: "paid", data: "a\nb\n c\n", topics: [] },
  ]);
  assert.deepEqual(data("data: only\n\n"), ["only"]);
  assert.deepEqual(data("data:\n\n"), [""]);
  assert.deepEqual(data("data: not ended\n"), []);
  assert.deepEqual(data(": comment\n\n:\n:\ndata: x\n\n"), ["x"]);
  assert.deepEqual(data("data: a\u2028b\u000bc\n\n"), ["a\u2028b\u000bc"]);
  assert.deepEqual(data("\ufeffdata: after a mark\n\n"), ["after a mark"]);
  assert.deepEqual(data("data: \ufeffkept\n\n"), ["\ufeffkept"]);
});

test("topics are kept in their order, and a type alone makes no event", () => {
  assert.deepEqual(blocks("topic: /a\ntopic: b: c\ndata: x\n\nevent: paid\n\ndata: y\n\n"), [
    { type: "message", data: "x", topics: ["/a", "b: c"] },
    { type: "message", data: "y", topics: [] },
  ]);
});

test("an id with NUL does not count, an id without data names a cursor", () => {
  assert.deepEqual(blocks("id: a\u0000b\ndata: x\n\nid: 8\n\nid\ndata: y\n\n"), [
    { type: "message", data: "x", topics: [] },
    { id: "8", type: "message", topics: [] },
    { id: "", type: "message", data: "y", topics: [] },
  ]);
});

test("retry is taken as soon as its line has come, and only digits are", () => {
  const retry = (text: string): number | undefined => parse([ENCODER.encode(text)]).retry;
  assert.equal(retry("retry: 2900\n"), 2900);
  assert.equal(retry("retry: 2900\nretry: 1s\nretry: -1\nretry: 1.5\nretry:\n"), 2900);
});

test("however a stream is cut, and whichever its ends of lines are, the events are the same", () => {
  const text = "\ufeff: hi\nid: 1\nevent: é€😀\ndata: é€😀\ndata: 2\n\n\nid: 2\n\ntopic: /ü\ndata:\n\nid: 3\ndata: end\n\n";
  const expected = blocks(text);
  assert.equal(expected.length, 4);
  for (const end of ["\n", "\r", "\r\n"]) {
    const bytes = ENCODER.encode(text.replaceAll("\n", end));
    const check = (...cuts: number[]): void => {
      const edges = [0, ...cuts, bytes.length];
      const parts = edges.slice(1).map((edge, index) => bytes.slice(edges[index], edge));
      assert.deepEqual(parse(parts).blocks, expected, `${JSON.stringify(end)} cut at ${cuts}`);
    };
    check();
    check(...bytes.keys());
    for (let first = 0; first <= bytes.length; first++)
      for (let second = first; second <= bytes.length; second += 3) check(first, second);
  }
});

test("an event that is too large loses its data and keeps its id, and the next event comes", () => {
  const large = "x".repeat(900);
  for (const text of [
    `id: 1\ndata: ${large}${large}\n\n`,
    `id: 1\ndata: ${large}\ndata: ${large}\n\n`,
    `id: 1\ndata: ${large}${large}\ndata: ${large}${large}\ndata: 1\n\n`,
  ])
    for (const size of [1, 7, 400, 10_000]) {
      const bytes = ENCODER.encode(`${text}id: 2\ndata: next\n\n`);
      const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, n) => bytes.slice(n * size, (n + 1) * size));
      const [first, second, ...more] = parse(parts, 1000).blocks;
      assert.deepEqual(first, { id: "1", type: "message", topics: [], isTooLarge: true });
      assert.deepEqual(second, { id: "2", type: "message", data: "next", topics: [] });
      assert.equal(more.length, 0);
    }
});

test("comments between events may go on for ever", () => {
  const parser = createParser(100);
  for (let count = 0; count < 1000; count++) assert.deepEqual(parser.push(ENCODER.encode(": keep-alive\n")), []);
  assert.deepEqual(parser.push(ENCODER.encode("data: x\n\n"))[0]?.isTooLarge, undefined);
});

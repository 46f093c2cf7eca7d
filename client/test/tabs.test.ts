import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test, type TestContext } from "node:test";
import { openFeed, type Feed } from "../src/feed.js";
import { subscribe, type Gap, type Options, type Refusal, type State } from "../src/index.js";
import { toSelectors, unique } from "../src/selector.js";
import { Subscriber } from "../src/subscription.js";
import { TestHub, until } from "./hub.js";
import { TestLocks } from "./locks.js";

Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks: new TestLocks() } });

/** A tab with subscriptions of its own. */
class Tab {
  readonly feed: Feed;
  subscribers: Subscriber[] = [];

  constructor(
    readonly hub: TestHub,
    name: string,
  ) {
    this.feed = openFeed({ url: hub.url, protocol: "0.x" }, name, true);
  }

  subscribe(topics: string[], cursor = "", options: Options = {}): Listening {
    const listening = new Listening();
    const all: Options = {
      backoff: { initial: 20, max: 60 },
      onEvent: ({ data }) => listening.heard.push(data),
      onGap: (gap) => listening.gaps.push(gap),
      onRefusal: (refusal) => listening.refusals.push(refusal),
      onState: (state) => listening.states.push(state),
      ...options,
    };
    const selectors = unique(toSelectors(topics, "0.x"));
    listening.subscriber = new Subscriber(this.feed.hub, selectors, cursor, all, this.feed);
    this.subscribers.push(listening.subscriber);
    return listening;
  }

  close(): void {
    for (const subscriber of this.subscribers) subscriber.close();
  }
}

class Listening {
  heard: string[] = [];
  gaps: Gap[] = [];
  refusals: Refusal[] = [];
  states: State[] = [];
  declare subscriber: Subscriber;

  async open(): Promise<this> {
    await until(() => this.subscriber.state === "open", () => this.states);
    return this;
  }

  async hears(text: string): Promise<void> {
    await until(() => this.heard.includes(text), () => [text, this.heard.slice(-5), this.states]);
  }
}

let count = 0;

async function start(context: TestContext): Promise<{ hub: TestHub; tab: () => Tab }> {
  const hub = await TestHub.start();
  const name = `group ${++count}`;
  const tabs: Tab[] = [];
  context.after(() => {
    for (const tab of tabs) tab.close();
    hub.close();
  });
  return {
    hub,
    tab: () => {
      const tab = new Tab(hub, name);
      tabs.push(tab);
      return tab;
    },
  };
}

test("many tabs with different topics have one stream, and each hears what it wants, once and in order", async (context) => {
  const { hub, tab } = await start(context);
  const listening: { topic: string; listens: Listening }[] = [];
  for (let number = 0; number < 20; number++) {
    const topic = `/room/${number % 5}`;
    listening.push({ topic, listens: tab().subscribe([topic]) });
  }
  await Promise.all(listening.map(({ listens }) => listens.open()));
  await until(() => hub.streams.length === 1, () => hub.streams.length);
  for (let number = 0; number < 100; number++) hub.publish(`/room/${number % 5}`, `${number}`);
  await Promise.all(listening.map(({ listens }, index) => listens.hears(`${95 + (index % 5)}`)));
  for (const [index, { listens }] of listening.entries())
    assert.deepEqual(listens.heard, Array.from({ length: 20 }, (_, number) => `${number * 5 + (index % 5)}`));
  assert.equal(hub.streams.length, 1);
});

test("a page's own cursor brings what came between, though the stream is open, and nothing twice", async (context) => {
  const { hub, tab } = await start(context);
  const first = await tab().subscribe(["/a"]).open();
  hub.publish("/a", "1", "", "1");
  hub.publish("/b", "2", "", "2");
  hub.publish("/a", "3", "", "3");
  await first.hears("3");
  const others = [tab().subscribe(["/a", "/b"], "1"), tab().subscribe(["/a"], "3"), tab().subscribe(["/b"], "1"), tab().subscribe(["*"], "2")];
  hub.publish("/b", "4", "", "4");
  for (const other of others) await other.open();
  hub.publish("/a", "5", "", "5");
  hub.publish("/b", "6", "", "6");
  await until(() => others.every(({ heard }) => heard.length > 0) && hub.streams.length === 1, () => others.map(({ heard }) => heard));
  hub.publish(["/a", "/b"], "7", "", "7");
  for (const other of [first, ...others]) await other.hears("7");
  assert.deepEqual([first, ...others].map(({ heard }) => heard.join("")), ["1357", "234567", "57", "2467", "34567"]);
  assert.ok([first, ...others].every(({ gaps }) => !gaps.length));
});

test("under steady traffic tabs come and go, the leading one too, and nobody loses or doubles anything", async (context) => {
  const { hub, tab } = await start(context);
  let number = 0;
  const publish = (): void => {
    number += 1;
    hub.publish(number % 3 ? "/a" : "/b", `${number}`, "", `n${number}`);
  };
  publish();
  const timer = setInterval(publish, 1);
  context.after(() => clearInterval(timer));
  let tabs: { tab: Tab; begin: number; all: Listening; some: Listening }[] = [];
  const open = (): void => {
    const opened = tab();
    const begin = number;
    tabs.push({ tab: opened, begin, all: opened.subscribe(["/a", "/b"], `n${begin}`), some: opened.subscribe(["/b"], `n${begin}`) });
  };
  const check = async (): Promise<void> => {
    const last = `${number - (number % 3) + 3}`;
    for (const { all, some } of tabs) await Promise.all([all.hears(last), some.hears(last)]);
    for (const { begin, all, some } of tabs) {
      assert.deepEqual(all.heard, Array.from({ length: all.heard.length }, (_, index) => `${begin + 1 + index}`));
      const first = begin - (begin % 3) + 3;
      assert.deepEqual(some.heard, Array.from({ length: some.heard.length }, (_, index) => `${first + 3 * index}`));
      assert.deepEqual([all.gaps, some.gaps], [[], []]);
    }
  };
  for (let round = 0; round < 12; round++) {
    open();
    if (round % 2) open();
    await check();
    if (round % 3 === 1) {
      tabs[0]?.tab.close();
      tabs = tabs.slice(1);
    }
    if (round % 4 === 2) hub.cut();
    await check();
  }
  clearInterval(timer);
  await until(() => hub.streams.length === 1, () => hub.streams.length);
});

test("a hub without the extension has one stream for each set of topics", async (context) => {
  const { hub, tab } = await start(context);
  hub.isMultiplex = false;
  hub.publish("/a", "0", "", "0");
  const first = await tab().subscribe(["/a"]).open();
  const requests = hub.requests.length;
  assert.equal(requests, 1);
  const second = await tab().subscribe(["/a"]).open();
  const third = await tab().subscribe(["/b"]).open();
  const fourth = await tab().subscribe(["/a", "/b"]).open();
  assert.equal(hub.streams.length, 3);
  hub.publish("/a", "1", "", "1");
  const late = tab().subscribe(["/a"], "0");
  hub.publish("/b", "2", "", "2");
  hub.publish("/a", "3", "", "3");
  const all = [first, second, third, fourth, late];
  await Promise.all([late.hears("3"), second.hears("3"), fourth.hears("3"), third.hears("2")]);
  await until(() => hub.streams.length === 3, () => hub.streams.map(({ topics }) => topics));
  hub.publish(["/a", "/b"], "4", "", "4");
  await Promise.all(all.map((each) => each.hears("4")));
  assert.deepEqual(all.map(({ heard }) => heard.join("")), ["134", "134", "24", "1234", "134"]);
});

test("templates have a stream of their own, shared by all tabs", async (context) => {
  const { hub, tab } = await start(context);
  const all = ["/{room}", "/a", "/{room}", "/{room}"].map((topic) => tab().subscribe([topic]));
  for (const each of all) await each.open();
  await until(() => hub.streams.length === 2);
  assert.deepEqual(hub.streams.map(({ topics }) => topics.join()).sort(), ["/a", "/{room}"]);
});

test("a topic that the hub refuses leaves the others alone", async (context) => {
  const { hub, tab } = await start(context);
  hub.accepts = (_token, { searchParams }) => (searchParams.getAll("topic").includes("bad") ? { status: 400 } : undefined);
  const good = await tab().subscribe(["/good"]).open();
  const bad = tab().subscribe(["bad"], "", { backoff: { initial: 2, max: 2 } });
  await until(() => bad.refusals.length > 2);
  hub.publish("/good", "heard");
  await good.hears("heard");
  assert.ok(bad.states.includes("refused"));
  // All of them at once.
  const fresh = await start(context);
  fresh.hub.accepts = hub.accepts;
  const opened = fresh.tab();
  const [other, worse] = [opened.subscribe(["/good"]), opened.subscribe(["bad"])];
  await other.open();
  await until(() => worse.refusals.length > 1);
});

test("a topic that is added is heard from then on", async (context) => {
  const { hub, tab } = await start(context);
  const leading = await tab().subscribe(["/a"]).open();
  const { subscriber, heard } = await tab().subscribe(["/a"]).open();
  hub.publish("/b", "before", "", "1");
  subscriber.add("/b");
  await until(() => hub.streams.length === 1 && hub.streams[0]?.topics.includes("/b") === true);
  hub.publish("/a", "between", "", "2");
  await until(() => heard.includes("between"));
  hub.publish("/b", "after", "", "3");
  await until(() => heard.includes("after"));
  subscriber.remove("/b");
  hub.publish("/b", "too late", "", "4");
  hub.publish("/a", "last", "", "5");
  await leading.hears("last");
  await until(() => heard.includes("last"));
  assert.deepEqual(heard, ["between", "after", "last"]);
  assert.deepEqual(leading.heard, ["between", "last"]);
});

test("a hub that has lost its log tells each tab", async (context) => {
  const { hub, tab } = await start(context);
  const all = [await tab().subscribe(["/a"]).open(), await tab().subscribe(["/a"]).open()];
  hub.publish("/a", "1", "", "1");
  for (const each of all) await each.hears("1");
  hub.log = [];
  hub.cut();
  hub.publish("/a", "2", "", "2");
  for (const each of all) await each.hears("2");
  assert.deepEqual(all.map(({ gaps }) => gaps), [[{ asked: "1", answered: "earliest" }], [{ asked: "1", answered: "earliest" }]]);
});

test("any tab can renew the credentials of the stream", async (context) => {
  const { hub, tab } = await start(context);
  await tab().subscribe(["/a"]).open();
  const { subscriber } = await tab().subscribe(["/a"]).open();
  subscriber.renew();
  await until(() => hub.requests.length === 2 && hub.streams.length === 1);
});

test("a widening that is refused for long brings nothing twice when it is let in", async (context) => {
  const { hub, tab } = await start(context);
  const opened = tab();
  const first = await opened.subscribe(["/a"]).open();
  hub.accepts = (_token, { searchParams }) => (searchParams.getAll("topic").includes("/b") ? { status: 503 } : undefined);
  const second = opened.subscribe(["/b"]);
  await until(() => second.refusals.length > 0);
  // More than a subscription remembers.
  for (let number = 0; number < 1500; number++) hub.publish("/a", `${number}`);
  await first.hears("1499");
  hub.accepts = undefined;
  await second.open();
  hub.publish(["/a", "/b"], "last");
  await first.hears("last");
  assert.equal(first.heard.length, 1501);
});

test("a topic that is added and refused is told, and the others go on", async (context) => {
  const { hub, tab } = await start(context);
  const { subscriber, refusals, heard } = await tab().subscribe(["/a"]).open();
  hub.accepts = (_token, { searchParams }) => (searchParams.getAll("topic").includes("bad") ? { status: 400 } : undefined);
  subscriber.add("bad");
  await until(() => refusals.length > 0);
  hub.publish("/a", "heard");
  await until(() => heard.includes("heard"));
});

test("who takes the lead asks for the topics of the tabs that are there", async (context) => {
  const { hub, tab } = await start(context);
  const leading = tab();
  await leading.subscribe(["/l"]).open();
  const all = [await tab().subscribe(["/p"]).open(), await tab().subscribe(["/q"]).open()];
  for (let number = 0; number < 20; number++) {
    const other = tab();
    await other.subscribe([`/article/${number}`]).open();
    other.close();
  }
  const before = hub.requests.length;
  leading.close();
  await until(() => hub.requests.length > before);
  hub.publish(["/p", "/q"], "heard");
  for (const each of all) await each.hears("heard");
  // Some may still be on their way out.
  assert.ok((hub.requests[before]?.searchParams.getAll("topic").length ?? 0) <= 4);
  await until(() => hub.streams.length === 1 && hub.streams[0]?.topics.join() === "/p,/q");
});

test("sets that another hub cannot tell apart are never heard by each other", async (context) => {
  for (const opening of ["", ":\n"]) {
    const { hub, tab } = await start(context);
    hub.isMultiplex = false;
    hub.opening = opening;
    for (const [topic, id] of [["/a", "0"], ["/a", "1"], ["/b", "2"]] as const) hub.publish(topic, id, "", id);
    const opened = tab();
    const [a, b] = [opened.subscribe(["/a"], "0"), opened.subscribe(["/b"], "0")];
    await a.hears("1");
    await b.hears("2");
    hub.publish(["/a", "/b"], "last");
    for (const each of [a, b]) await each.hears("last");
    assert.deepEqual([a.heard, b.heard], [["1", "last"], ["2", "last"]]);
  }
});

test("when a refused topic is gone, or a hub has learnt to merge, all share one stream again", async (context) => {
  const { hub, tab } = await start(context);
  hub.accepts = (_token, { searchParams }) => (searchParams.getAll("topic").includes("bad") ? { status: 400 } : undefined);
  const opened = [0, 1, 2, 3, 4].map((number) => tab().subscribe([`/t${number}`]));
  for (const each of opened) await each.open();
  const worst = tab();
  const bad = worst.subscribe(["bad"]);
  await until(() => bad.refusals.length > 3);
  assert.equal(hub.streams.length, 1);
  worst.close();
  hub.isMultiplex = false;
  hub.cut();
  await until(() => hub.streams.length === 5, () => hub.streams.length);
  hub.isMultiplex = true;
  hub.cut();
  await until(() => hub.streams.length === 1 && hub.streams[0]?.topics.length === 5, () => hub.streams.map(({ topics }) => topics));
});

test("a page that is newer than the stream of a slow leading tab hears nothing old", async (context) => {
  const { hub, tab } = await start(context);
  const slow = await tab().subscribe(["/a"]).open();
  hub.publish("/a", "5", "", "5");
  await slow.hears("5");
  const [stream] = hub.streams;
  for (const id of ["6", "7", "8"]) hub.log.push({ id, topics: ["/a"], data: id, type: "" });
  const fast = await tab().subscribe(["/a"], "8").open();
  for (const id of ["6", "7", "8"]) stream?.response.write(`topic: /a\nid: ${id}\ndata: ${id}\n\n`);
  await slow.hears("8");
  hub.publish("/a", "9", "", "9");
  for (const each of [slow, fast]) await each.hears("9");
  assert.deepEqual([slow.heard, fast.heard], [["5", "6", "7", "8", "9"], ["9"]]);
});

test("a tab that was replaced and says that it leads is not believed", async (context) => {
  const { hub, tab } = await start(context);
  const { heard } = await tab().subscribe(["/a"]).open();
  const other = new BroadcastChannel(`group ${count}`);
  context.after(() => other.close());
  other.postMessage(["0.5", ["lead", 1]]);
  const follower = await tab().subscribe(["/a"]).open();
  hub.publish("/a", "x");
  await follower.hears("x");
  assert.deepEqual([heard, hub.requests.length], [["x"], 1]);
});

test("a page without locks, and one without channels, has a stream of its own", async (context) => {
  const { navigator, BroadcastChannel } = globalThis;
  context.after(() => {
    Object.defineProperty(globalThis, "navigator", { configurable: true, value: navigator });
    globalThis.BroadcastChannel = BroadcastChannel;
  });
  const { hub, tab } = await start(context);
  globalThis.BroadcastChannel = class {
    constructor() {
      throw new DOMException("denied", "SecurityError");
    }
  } as never;
  const first = await tab().subscribe(["/a"]).open();
  let requests = 0;
  const locks = { request: () => Promise.reject(new DOMException(`denied ${++requests}`, "SecurityError")) };
  Object.defineProperty(globalThis, "navigator", { configurable: true, value: { locks } });
  const second = await tab().subscribe(["/a"]).open();
  hub.publish("/a", "x");
  for (const each of [first, second]) await each.hears("x");
  assert.deepEqual([hub.streams.length, requests], [2, 1]);
});

test("a leading tab that gets no answer gives the lead away", async (context) => {
  const { hub, tab } = await start(context);
  const { fetch } = globalThis;
  context.after(() => void (globalThis.fetch = fetch));
  let isBlocked = false;
  // The page of the first tab forbids the hub, with a policy of its own.
  globalThis.fetch = (...all) => (isBlocked ? Promise.reject(new TypeError("blocked")) : fetch(...all));
  const first = await tab().subscribe(["/a"], "", { backoff: { initial: 5, max: 5 } }).open();
  const second = await tab().subscribe(["/a"], "", { backoff: { initial: 5, max: 5 } }).open();
  isBlocked = true;
  const { states } = second;
  hub.cut();
  let changes = 0;
  await until(() => {
    changes = states.filter((state) => state === "waiting").length;
    return changes > 2;
  });
  isBlocked = false;
  hub.publish("/a", "x");
  for (const each of [first, second]) await each.hears("x");
});

test("messages have the version that the name of the channel says", async () => {
  const source = await readFile(new URL("../../src/feed.ts", import.meta.url), "utf8");
  const messages = source.slice(source.indexOf("type Message ="), source.indexOf("const VERSION"));
  const kinds = [...messages.matchAll(/readonly \[(.*)\]/g)].map(([, kind]) => kind);
  // Another list needs another VERSION.
  assert.match(source, /const VERSION = 1;/);
  assert.deepEqual(kinds, [
    '"notice", key: string, ...Notice',
    '"want", wants: readonly Want[]',
    '"lead", since: number',
    '"places", places: Places',
    '"gone", tab: string',
    '"renew" | "wake" | "ping"',
  ]);
});

test("a leading tab that does not know yet what another wants loses nothing for it", async (context) => {
  const { hub, tab } = await start(context);
  const { heard, gaps } = await tab().subscribe(["/a"]).open();
  hub.publish("/a", "1", "", "1");
  await until(() => heard.length === 1);
  const leader = new BroadcastChannel(`group ${count}`);
  context.after(() => leader.close());
  const say = (...message: unknown[]): void => leader.postMessage(["leader", message]);
  const learn = (cursor: string, topic: string): void => say("notice", "0", "learn", cursor, cursor, [["topic", topic]], true, "open");
  say("lead", Date.now() + 1000);
  await until(() => hub.streams.length === 0);
  learn("1", "/b");
  hub.publish("/a", "2", "", "2");
  hub.publish("/b", "3", "", "3");
  say("notice", "0", "deliver", [{ id: "3", type: "message", data: "3", topics: ["/b"] }]);
  learn("3", "/a");
  await until(() => heard.length === 2);
  assert.deepEqual([heard, gaps], [["1", "2"], []]);
});

test("pages of two users share no stream", async (context) => {
  const { hub } = await start(context);
  context.after(() => void Reflect.deleteProperty(globalThis, "document"));
  const subscriptions = ["ann", "bob", "ann"].map((content) => {
    const document = { querySelector: (selector: string) => (selector === 'meta[name="mercure-user"]' ? { content } : null) };
    Object.defineProperty(globalThis, "document", { configurable: true, value: document });
    return subscribe(hub.url, "/a");
  });
  Reflect.deleteProperty(globalThis, "document");
  context.after(() => subscriptions.forEach((subscription) => subscription.close()));
  await until(() => subscriptions.every(({ state }) => state === "open"));
  assert.equal(hub.requests.length, 2);
});

test("what an added topic brings stands behind what was heard before", async (context) => {
  const { hub, tab } = await start(context);
  const { subscriber, heard } = await tab().subscribe(["/a"]).open();
  const other = await tab().subscribe(["/a"]).open();
  hub.isHeld = true;
  subscriber.add("/b");
  await until(() => hub.held.length === 1);
  hub.publish("/b", "1");
  hub.publish(["/a", "/b"], "2");
  await until(() => heard.includes("2"));
  hub.release();
  await until(() => hub.streams.length === 1);
  hub.publish("/b", "3");
  hub.publish("/a", "4");
  await other.hears("4");
  await until(() => heard.includes("4"));
  assert.deepEqual(heard, ["2", "3", "4"]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { subscribe, type MercureEvent } from "../src/index.js";
import { until } from "./hub.js";
import { Page, start } from "./page.js";

test("listeners hear their type, a star all of them, and a loop too", async (context) => {
  const { hub, page } = await start(context);
  const { subscription } = await page("/news").open();
  const heard: string[] = [];
  const stop = subscription.on("message", (event) => heard.push(`message ${event.data}`));
  subscription.on("paid", (event) => heard.push(`paid ${event.json<{ total: number }>().total} ${event.topics}`));
  subscription.on("*", ({ type, id }) => heard.push(`* ${type} ${id}`));
  const loop = (async () => {
    const seen: string[] = [];
    for await (const { data } of subscription) seen.push(data);
    return seen;
  })();
  hub.publish(["/news", "/alternate"], '{"total": 7}', "paid", "a");
  hub.publish("/news", "x", "", "b");
  await until(() => heard.length === 4);
  stop();
  hub.publish("/news", "y", "", "c");
  await until(() => subscription.lastEventId === "c");
  subscription.close();
  assert.deepEqual(heard, ["paid 7 /news,/alternate", "* paid a", "message x", "* message b", "* message c"]);
  assert.deepEqual(await loop, ['{"total": 7}', "x", "y"]);
});

test("types of events are known to the compiler", async (context) => {
  const { hub } = await start(context);
  const subscription = subscribe<{ paid: { total: number } }>(hub.url, "/a");
  context.after(() => subscription.close());
  const totals: number[] = [];
  subscription.on("paid", (event: MercureEvent<{ total: number }>) => totals.push(event.json().total));
  // @ts-expect-error The data of this type is no text.
  subscription.on("paid", (event) => event.json().length);
  assert.equal(totals.length, 0);
});

test("a URL of a subscription brings its topics, its cursor and its token, in both dialects", async (context) => {
  const { hub } = await start(context);
  for (const id of ["1", "2"]) hub.publish("/a", id, "", id);
  const parameters = "authorization=x.y.z&topic=%2Fa&topic=%2Fb%7B%3Fc%7D&lastEventID=1";
  const legacy = new Page(`${hub.url}?${parameters}`, "/c", { share: false });
  await legacy.hears("2");
  const modern = new Page(`${hub.url}?match=%2Fa&match_urlpattern=%2Fb%2F%3Ac&last_event_id=1`, [{ urlpattern: "/d/*" }]);
  await modern.hears("2");
  for (const { subscription } of [legacy, modern]) subscription.close();
  const asked = hub.requests.map(({ searchParams }) => [...searchParams].map(([name, value]) => `${name}=${value}`).join(" "));
  assert.deepEqual(asked, [
    "authorization=x.y.z topic=/a topic=/b{?c} topic=/c lastEventID=1 petasos-multiplex=",
    "match=/a match_urlpattern=/b/:c match_urlpattern=/d/* last_event_id=1 petasos-multiplex=",
  ]);
  assert.deepEqual(modern.subscription.topics, ["/a", { urlpattern: "/b/:c" }, { urlpattern: "/d/*" }]);
  assert.throws(() => subscribe("http://"), TypeError);
});

test("cut at any moment, it continues behind the last event", async (context) => {
  const { hub, page } = await start(context);
  const { heard, states, gaps } = await page("/a").open().then((page) => page);
  const expected: string[] = [];
  for (let count = 0; count < 10; count++) {
    const text = `text ${count}`;
    expected.push(text);
    if (count % 2) hub.write(`id: half\ndata: ${text}\n`);
    if (count % 3) hub.cut();
    else hub.end();
    hub.publish("/a", text);
    await until(() => heard.includes(text), () => [heard, states]);
  }
  assert.deepEqual(heard, expected);
  assert.deepEqual(gaps, []);
});

test("an update that comes twice is heard once", async (context) => {
  const { hub, page } = await start(context);
  const { heard } = await page("/a").open();
  hub.write("id: 1\ndata: once\n\nid: 1\ndata: once\n\n");
  hub.publish("/a", "last");
  await until(() => heard.includes("last"));
  assert.deepEqual(heard, ["once", "last"]);
});

test("a silent stream moves the cursor on, and pages hear nothing of it", async (context) => {
  const { hub, page } = await start(context);
  const { subscription, heard } = await page("/a").open();
  hub.publish("/elsewhere", "x", "", "elsewhere");
  hub.keepAlive();
  await until(() => subscription.lastEventId === "elsewhere");
  hub.cut();
  await until(() => hub.requests.length === 2);
  assert.equal(hub.requests[1]?.searchParams.get("lastEventID"), "elsewhere");
  assert.deepEqual(heard, []);
});

test("every refusal is told and none is the end", async (context) => {
  const { hub, page } = await start(context);
  const problem = { title: "Bad", detail: "no such thing", type: "about:blank" };
  hub.refusals = [
    { status: 500, body: "<h1>Oops</h1>" },
    { status: 400, headers: { "Content-Type": "application/problem+json" }, body: JSON.stringify(problem) },
    { status: 403, headers: { "Content-Type": "application/problem+json" }, body: "{broken" },
    { status: 200, headers: { "Content-Type": "text/html" }, body: "a login form" },
    { status: 204 },
    { status: 404 },
    { status: 410 },
    { status: 429, headers: { "Retry-After": "0" } },
  ];
  const statuses = hub.refusals.map(({ status }) => status);
  const { refusals, states } = await page("/a").open();
  assert.deepEqual(refusals.map(({ status }) => status), statuses);
  assert.deepEqual(refusals[1], { status: 400, title: "Bad", detail: "no such thing", willRetry: true });
  assert.deepEqual(refusals[3], { status: 200, title: "OK", detail: "text/html", willRetry: true });
  assert.ok(refusals.every(({ willRetry }) => willRetry));
  assert.deepEqual(states, [...statuses.flatMap(() => ["refused", "connecting"]), "open"]);
});

test("Retry-After is waited for, though the page wakes", async (context) => {
  const { hub, page } = await start(context);
  hub.refusals = [{ status: 503, headers: { "Retry-After": "1" } }];
  const begun = Date.now();
  const { states } = page("/a");
  await until(() => states.includes("refused"));
  globalThis.dispatchEvent(new Event("online"));
  await until(() => states.includes("open"));
  assert.ok(Date.now() - begun >= 990);
});

test("a page that comes online connects at once", async (context) => {
  const { hub, page } = await start(context);
  hub.opening = "retry: 600000\n";
  const { states } = await page("/a", { backoff: { initial: 600_000, max: 600_000 } }).open();
  hub.end();
  await until(() => states.at(-1) === "waiting");
  globalThis.dispatchEvent(new Event("online"));
  await until(() => states.at(-1) === "open");
});

test("a stream without a sign of life is given up when the page wakes", async (context) => {
  const { hub, page } = await start(context);
  const { subscription } = await page("/a", { keepAlive: 20 }).open();
  hub.publish("/a", "heard");
  const { now } = Date;
  Date.now = () => now() + 60_000;
  context.after(() => void (Date.now = now));
  await until(() => subscription.lastEventId !== "earliest");
  Date.now = () => now() + 120_000;
  globalThis.dispatchEvent(new Event("online"));
  await until(() => hub.requests.length === 2);
  Date.now = now;
});

test("a token is asked for at each connect, with the topics, and renewed at once when it has ended", async (context) => {
  const { hub, page } = await start(context);
  hub.opening = "";
  hub.accepts = (token) => (token === `token ${hub.tokens.length}` ? undefined : { status: 401 });
  const asked: string[][] = [];
  let ahead = 1;
  const token = (topics: string[]): Promise<string> => {
    asked.push(topics);
    return Promise.resolve(`token ${asked.length + ahead - 1}`);
  };
  const { refusals, states } = await page(["/b", "/a"], { token, backoff: { initial: 600_000, max: 600_000 } }).open();
  assert.deepEqual([asked, refusals], [[["/a", "/b"]], []]);
  // The callback gives the old token once.
  ahead = 0;
  hub.end();
  await until(() => states.at(-1) === "waiting");
  globalThis.dispatchEvent(new Event("online"));
  await until(() => states.at(-1) === "refused");
  ahead = 1;
  globalThis.dispatchEvent(new Event("online"));
  await until(() => hub.streams.length === 1, () => [states, hub.tokens, asked]);
  assert.deepEqual(refusals.map(({ status }) => status), [401, 401]);
});

test("a callback that fails or never answers is a refusal, and is asked again", async (context) => {
  const { hub, page } = await start(context);
  const answers = [
    () => Promise.reject(new Error("no login")),
    () => {
      throw new Error("broken");
    },
    () => new Promise<string>(() => {}),
    () => Promise.resolve("good"),
  ];
  const shown = page("/a", { token: () => answers.shift()?.() ?? "good", keepAlive: 4 });
  await until(() => answers.length === 1);
  // The page wakes later than any keep-alive.
  const { now } = Date;
  Date.now = () => now() + 60_000;
  context.after(() => void (Date.now = now));
  globalThis.dispatchEvent(new Event("online"));
  await shown.open();
  Date.now = now;
  assert.deepEqual(shown.refusals.map(({ status }) => status), [0, 0, 0]);
  assert.match(shown.refusals[0]?.detail ?? "", /no login/);
  assert.match(shown.refusals[2]?.detail ?? "", /no answer/);
  assert.deepEqual(hub.tokens, ["good"]);
});

test("a gap is told: the hub begins elsewhere than was asked", async (context) => {
  const { hub, page } = await start(context);
  hub.publish("/a", "x", "", "1");
  for (const isMultiplex of [true, false]) {
    hub.isMultiplex = isMultiplex;
    const { gaps, heard } = await page("/a", { lastEventId: "lost" }).open();
    await until(() => heard.length === 1);
    assert.deepEqual(gaps, [{ asked: "lost", answered: "earliest" }]);
  }
  for (const lastEventId of ["1", "earliest", ""]) assert.deepEqual((await page("/a", { lastEventId }).open()).gaps, []);
  // The field holds bytes, so it cannot be compared.
  hub.publish("/a", "y", "", "é");
  for (const isMultiplex of [true, false]) {
    hub.isMultiplex = isMultiplex;
    assert.deepEqual((await page("/a", { lastEventId: "é" }).open()).gaps, []);
  }
});

test("a stream that began with nothing continues from where it began", async (context) => {
  const { hub, page } = await start(context);
  const { heard } = await page("/a").open();
  hub.cut();
  hub.publish("/a", "first of all");
  await until(() => heard.length === 1);
  assert.equal(hub.requests[1]?.searchParams.get("lastEventID"), "earliest");
});

test("topics come and go without a cut", async (context) => {
  const { hub, page } = await start(context);
  const { subscription, heard, states } = await page("/a").open();
  subscription.add("/b", "/c");
  subscription.remove("/c");
  assert.deepEqual(subscription.topics, ["/a", "/b"]);
  await until(() => hub.streams.at(-1)?.topics.includes("/b") === true);
  hub.publish("/a", "a");
  hub.publish("/b", "b");
  hub.publish("/c", "c");
  await until(() => heard.includes("b"));
  subscription.remove("/a");
  await until(() => hub.streams.length === 1 && hub.streams[0]?.topics.join() === "/b");
  hub.publish("/a", "not heard");
  hub.publish("/b", "last");
  await until(() => heard.includes("last"));
  assert.deepEqual(heard, ["a", "b", "last"]);
  assert.deepEqual(states, ["open"]);
});

test("renew() connects with new credentials, and nothing is lost", async (context) => {
  const { hub, page } = await start(context);
  let count = 0;
  const { subscription, heard, states } = await page("/a", { token: () => `${++count}` }).open();
  subscription.renew();
  for (let number = 0; number < 20; number++) {
    hub.publish("/a", `${number}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => hub.streams.length === 1 && hub.streams[0]?.token === "2");
  hub.publish("/a", "last");
  await until(() => heard.includes("last"));
  assert.deepEqual(heard, [...Array.from({ length: 20 }, (_, number) => `${number}`), "last"]);
  assert.deepEqual(states, ["open"]);
});

test("a loop that is slow loses the oldest events, and is told", async (context) => {
  const { hub, page } = await start(context);
  const shown = await page("/a").open();
  const iterator = shown.subscription[Symbol.asyncIterator]();
  const first = iterator.next();
  for (let number = -1; number < 1002; number++) hub.publish("/a", `${number}`, "", `${number}`);
  await shown.hears("1001");
  assert.equal((await first).value.data, "-1");
  assert.deepEqual(shown.gaps, [{ asked: "0", answered: "1" }]);
  assert.equal((await iterator.next()).value.data, "2");
  assert.deepEqual(await iterator.return?.(), { value: undefined, done: true });
  assert.deepEqual(await iterator.next(), { value: undefined, done: true });
});

test("a signal closes, and so does close(), for good", async (context) => {
  const { hub, page } = await start(context);
  const aborted = new AbortController();
  const { subscription, states } = await page("/a", { signal: aborted.signal }).open();
  aborted.abort();
  await until(() => hub.streams.length === 0);
  assert.deepEqual([subscription.state, states.at(-1)], ["closed", "closed"]);
  assert.deepEqual(await subscription[Symbol.asyncIterator]().next(), { value: undefined, done: true });
  assert.equal(page("/a", { signal: AbortSignal.abort() }).subscription.state, "closed");
  assert.equal(hub.requests.length, 1);
});

test("a listener that throws keeps nobody from hearing", async (context) => {
  const { hub, page } = await start(context);
  const errors: unknown[] = [];
  globalThis.reportError = (error: unknown) => void errors.push(error);
  context.after(() => void Reflect.deleteProperty(globalThis, "reportError"));
  const { subscription, heard } = await page("/a").open();
  subscription.on("message", () => {
    throw new Error("of the page");
  });
  hub.publish("/a", "1");
  hub.publish("/a", "2");
  await until(() => heard.length === 2 && errors.length === 2);
});

test("the cursor survives a reload in sessionStorage, and a cursor of the page is newer", async (context) => {
  const stored = new Map<string, string>();
  Object.defineProperty(globalThis, "sessionStorage", {
    configurable: true,
    value: { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => void stored.set(key, value) },
  });
  context.after(() => void Reflect.deleteProperty(globalThis, "sessionStorage"));
  const { hub, page } = await start(context);
  const before = await page("/a", { cursor: "session" }).open();
  hub.publish("/a", "1", "", "1");
  await before.hears("1");
  before.subscription.close();
  hub.publish("/a", "2", "", "2");
  hub.publish("/a", "3", "", "3");
  const after = page("/a", { cursor: "session" });
  await after.hears("3");
  assert.deepEqual(after.heard, ["2", "3"]);
  const given = page("/a", { cursor: "session", lastEventId: "2" });
  await given.hears("3");
  assert.deepEqual(given.heard, ["3"]);
  Object.defineProperty(globalThis, "sessionStorage", { configurable: true, get: () => { throw new Error("forbidden"); } });
  await page("/a", { cursor: "session" }).open();
});

test("a refusal is told, whatever its body is", async (context) => {
  const { hub, page } = await start(context);
  const headers = { "Content-Type": "application/json" };
  hub.refusals = ["null", "[]", "7", "{"].map((body) => ({ status: 403, headers, body }));
  const { refusals } = await page("/a").open();
  assert.deepEqual(refusals.map(({ status, title }) => [status, title]), Array(4).fill([403, "Forbidden"]));
});

test("renew() at each refusal does not shorten the wait", async (context) => {
  const { hub } = await start(context);
  hub.accepts = () => ({ status: 401 });
  let count = 0;
  const subscription = subscribe(hub.url, "/a", {
    backoff: { initial: 300, max: 300 },
    onRefusal: () => {
      count += 1;
      subscription.renew();
    },
  });
  context.after(() => subscription.close());
  const begun = Date.now();
  await until(() => count > 3);
  assert.ok(Date.now() - begun > 50, `${Date.now() - begun}`);
});

test("Retry-After is waited for, though topics come", async (context) => {
  const { hub, page } = await start(context);
  hub.refusals = [{ status: 503, headers: { "Retry-After": "1" } }];
  const begun = Date.now();
  const { subscription, states } = page("/a");
  await until(() => states.includes("refused"));
  subscription.add("/b");
  await until(() => hub.streams.length === 1);
  assert.ok(Date.now() - begun >= 990);
  assert.deepEqual(hub.streams[0]?.topics, ["/a", "/b"]);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { MercureEventSource } from "../src/adapters/event-source.js";
import { until } from "./hub.js";
import { start } from "./page.js";

test("it has the interface of EventSource, and never gives up", async (context) => {
  const { hub } = await start(context);
  hub.refusals = [{ status: 401 }];
  const source = new MercureEventSource(`${hub.url}?topic=/a`, { backoff: { initial: 20, max: 20 } });
  context.after(() => source.close());
  const heard: string[] = [];
  source.onopen = () => heard.push(`open ${source.readyState}`);
  source.onerror = () => heard.push(`error ${source.readyState}`);
  source.onmessage = ({ data, lastEventId, origin }) => heard.push(`${data} ${lastEventId} ${origin === new URL(hub.url).origin}`);
  source.addEventListener("paid", (event) => heard.push(`paid ${(event as MessageEvent<string>).data}`));
  assert.deepEqual([source.readyState, source.CONNECTING, source.withCredentials, source.url], [0, 0, false, `${hub.url}?topic=/a`]);
  await until(() => source.readyState === source.OPEN);
  hub.publish("/a", "x", "", "1");
  hub.publish("/a", "y", "paid", "2");
  await until(() => heard.length === 4);
  source.close();
  assert.equal(source.readyState, MercureEventSource.CLOSED);
  assert.deepEqual(heard, ["error 0", "open 1", "x 1 true", "paid y"]);
});

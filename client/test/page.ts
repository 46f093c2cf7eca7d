/** A page that listens: a subscription, and everything that it has heard. */

import type { TestContext } from "node:test";
import { subscribe, type Gap, type Options, type Refusal, type State, type Subscription, type Topic } from "../src/index.js";
import { TestHub, until } from "./hub.js";

// A page has events of its own, which Node has not.
const events = new EventTarget();
globalThis.addEventListener = events.addEventListener.bind(events);
globalThis.removeEventListener = events.removeEventListener.bind(events);
globalThis.dispatchEvent = events.dispatchEvent.bind(events);

export class Page {
  heard: string[] = [];
  ids: string[] = [];
  gaps: Gap[] = [];
  refusals: Refusal[] = [];
  states: State[] = [];
  subscription: Subscription;

  constructor(hub: string, topics: Topic | Topic[] = [], options: Options = {}) {
    this.subscription = subscribe(hub, topics, {
      backoff: { initial: 20, max: 60 },
      ...options,
      onEvent: ({ data, id }) => (this.heard.push(data), this.ids.push(id)),
      onGap: (gap) => this.gaps.push(gap),
      onRefusal: (refusal) => this.refusals.push(refusal),
      onState: (state) => this.states.push(state),
    });
  }

  async open(): Promise<this> {
    await until(() => this.subscription.state === "open", () => this);
    return this;
  }

  /** Waits until the last of these texts is heard. */
  async hears(...texts: string[]): Promise<void> {
    await until(() => this.heard.includes(texts.at(-1) ?? ""), () => [texts, this.heard]);
  }
}

/** A hub that is closed with the test, and what opens pages that are. */
export async function start(context: TestContext): Promise<{ hub: TestHub; page: (...all: [(Topic | Topic[])?, Options?]) => Page }> {
  const hub = await TestHub.start();
  const pages: Page[] = [];
  context.after(() => {
    for (const { subscription } of pages) subscription.close();
    hub.close();
  });
  const page = (topics?: Topic | Topic[], options?: Options): Page => {
    const page = new Page(hub.url, topics, options);
    pages.push(page);
    return page;
  };
  return { hub, page };
}

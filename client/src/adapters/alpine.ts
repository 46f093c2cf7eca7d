/**
 * Alpine 3: `x-mercure="URL"` opens the stream of an element, and `x-mercure:TYPE="…"` on it or inside it runs an
 * expression for each event of a type, as `x-on` does: `$event` is the event. Attributes are in lower case, so types with
 * capital letters need `x-on` and a script.
 */

import { subscribe, type Subscription } from "../index.js";
import { tell } from "../page/tell.js";

/** Alpine, as far as this adapter needs it. */
interface Alpine {
  directive(
    name: string,
    run: (
      element: Element,
      directive: { value: string | null; modifiers: string[]; expression: string },
      utilities: {
        evaluateLater(expression: string): (receive: () => void, extras: object) => void;
        cleanup(run: () => void): void;
      },
    ) => void,
  ): void;
  prefixed(name: string): string;
}

const streams = new WeakMap<Element, Subscription>();

/** The plug-in: `Alpine.plugin(mercure)`, for pages that start Alpine themselves. */
export default function mercure(Alpine: Alpine): void {
  const attribute = Alpine.prefixed("mercure");

  /** That of the element or of the nearest one around it. */
  function stream(element: Element, type: string): Subscription {
    const owner = element.closest(`[${attribute}]`);
    if (!owner) throw new Error(`${attribute}:${type} needs ${attribute}="URL" on the element or around it`);
    let news = streams.get(owner);
    if (!news) {
      news = subscribe(owner.getAttribute(attribute) ?? "", [], tell(owner));
      streams.set(owner, news);
    }
    return news;
  }

  Alpine.directive("mercure", (element, { value, modifiers, expression }, { evaluateLater, cleanup }) => {
    // Alpine takes what stands behind a dot for modifiers.
    const type = [value, ...modifiers].join(".");
    const news = stream(element, type);
    if (value) {
      const evaluate = evaluateLater(expression);
      cleanup(news.on(type, (event) => evaluate(() => {}, { scope: { $event: event }, params: [event] })));
    } else
      cleanup(() => {
        news.close();
        streams.delete(element);
      });
  });
}

// Alpine starts after this module, which stands before it in the page.
document.addEventListener("alpine:init", () => mercure((globalThis as unknown as { Alpine: Alpine }).Alpine));

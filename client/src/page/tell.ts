/** What a page may want to show: DOM events of the element whose stream it is. */

import type { Options } from "../index.js";

type Reports = Options & Required<Pick<Options, "onState" | "onGap" | "onRefusal">>;

/**
 * Options that report to an element: `mercure:state`, `mercure:gap` and `mercure:refusal` bubble from it, with the state,
 * the gap or the refusal as `detail`.
 */
export function tell(element: EventTarget): Reports {
  const dispatch = (name: string) => (detail: unknown) => {
    element.dispatchEvent(new CustomEvent(`mercure:${name}`, { bubbles: true, detail }));
  };
  return { credentials: "include", onState: dispatch("state"), onGap: dispatch("gap"), onRefusal: dispatch("refusal") };
}

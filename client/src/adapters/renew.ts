/**
 * Renews the cookie of the current user, for applications that let the extension keep it (`user_topics`): whenever the hub
 * refuses the stream of an element, the application is asked for a fresh cookie. The client connects again anyway.
 */

/** Beside the folder of this file. */
const URL_OF_THE_COOKIE = new URL("../token", import.meta.url);

let asked: Promise<unknown> | undefined;

document.addEventListener("mercure:refusal", (event) => {
  if ((event as CustomEvent<{ status: number }>).detail.status !== 401) return;
  // Once for all streams of the page.
  asked ??= fetch(URL_OF_THE_COOKIE, { cache: "no-store" })
    .catch(() => {})
    .finally(() => (asked = undefined));
});

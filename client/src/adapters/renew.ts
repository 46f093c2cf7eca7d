/**
 * Renews the cookie of the current user, for applications that let the extension keep it (`user_topics`): whenever the hub
 * refuses the stream of an element, the application is asked for a fresh cookie. The client connects again anyway.
 *
 * If the login has ended, the page is loaded again: its stream would go on as nobody's, and hear nothing private. A page
 * that has something to save first prevents the default of the event `mercure:logout`.
 */

/** Beside the folder of this file. */
const URL_OF_THE_COOKIE = new URL("../token", import.meta.url);

let asked: Promise<unknown> | undefined;

/** Once for all streams of the page. */
async function ask(): Promise<void> {
  const answer = await fetch(URL_OF_THE_COOKIE, { cache: "no-store" }).catch(() => undefined);
  // Only a page that was made for a user: the page that is loaded in its place may be made for nobody.
  if (answer?.status !== 401 || !document.querySelector('meta[name="mercure-user"]')) return;
  if (document.dispatchEvent(new Event("mercure:logout", { cancelable: true }))) location.reload();
}

document.addEventListener("mercure:refusal", (event) => {
  if ((event as CustomEvent<{ status: number }>).detail.status !== 401) return;
  asked ??= ask().finally(() => (asked = undefined));
});

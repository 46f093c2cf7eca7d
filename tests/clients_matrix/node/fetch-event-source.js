// Made for browsers: it asks whether the page is visible.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };

const { fetchEventSource } = await import("@microsoft/fetch-event-source");
const { tell, url } = await import("./tell.js");

await fetchEventSource(url, {
  onmessage: (event) => tell(event.data, event.id),
  onclose() {
    throw new Error("the stream has ended: open it again");
  },
});

// The search of the theme runs in a worker, and browsers start none from a file. Where the site is opened from a disk, a
// hidden frame takes the place of the worker: the same script, the same messages.
if (location.protocol === "file:") {
  globalThis.Worker = class extends EventTarget {
    #frame = document.createElement("iframe");
    #ready;

    constructor(url) {
      super();
      const script = new URL(url, location.href).href;
      this.#frame.hidden = true;
      this.#frame.srcdoc = "<!doctype html>";
      this.#ready = new Promise((ready, failed) => {
        this.#frame.addEventListener("load", () => {
          const scope = this.#frame.contentWindow;
          scope.postMessage = (data) => this.#hear(data);
          scope.importScripts = (...urls) => Promise.all(urls.map((each) => load(scope, each)));
          load(scope, script).then(() => ready(scope), failed);
        }, { once: true });
      });
      document.documentElement.append(this.#frame);
    }

    postMessage(data) {
      this.#ready.then((scope) => scope.dispatchEvent(new scope.MessageEvent("message", { data })));
    }

    terminate() {
      this.#frame.remove();
    }

    #hear(data) {
      const event = new MessageEvent("message", { data });
      this.onmessage?.(event);
      this.dispatchEvent(event);
    }
  };

  function load(scope, url) {
    return new Promise((loaded, failed) => {
      const element = Object.assign(scope.document.createElement("script"), { src: url, onload: loaded, onerror: failed });
      scope.document.head.append(element);
    });
  }
}

/** The tabs of an origin that share streams: one of them leads, and all of them hear each other. */

/** What one tab wants to know of the others. */
export interface TabListener {
  /** The others learn when this tab ends. */
  entered(): void;
  /** This tab leads from now on: no other does. */
  lead(): void;
  /** Another tab has taken the lead, since this one did not answer. */
  follow(): void;
  /** A message of another tab. */
  heard(from: string, message: unknown): void;
  /** A tab that is watched has ended. */
  gone(tab: string): void;
}

export class Tabs {
  readonly id = `${Math.random()}`;
  #channel: BroadcastChannel;
  #left = new AbortController();
  #watched = new Set([this.id]);

  /**
   * The browser gives the lock of the leading tab to the next one when the tab ends, however it ends.
   *
   * @param name Of the group of tabs.
   */
  constructor(
    readonly name: string,
    readonly listener: TabListener,
  ) {
    this.#channel = new BroadcastChannel(name);
    this.#channel.onmessage = ({ data }: MessageEvent<[string, unknown]>) => listener.heard(...data);
    this.#hold(name + this.id, () => {
      listener.entered();
      this.lead();
    });
  }

  /** Whether this page can share streams: Web Locks need a secure context. */
  static areThere(): boolean {
    return !!globalThis.navigator?.locks && !!globalThis.BroadcastChannel;
  }

  say(message: unknown): void {
    this.#channel.postMessage([this.id, message]);
  }

  leave(): void {
    this.#left.abort();
    this.#channel.close();
  }

  /** Tells the listener when this tab is gone. */
  watch(tab: string): void {
    if (this.#watched.has(tab)) return;
    this.#watched.add(tab);
    this.#hold(this.name + tab, () => {
      this.#watched.delete(tab);
      this.listener.gone(tab);
      return true;
    });
  }

  /** Leads when no other tab does. `steal`: at once, since the other does not answer. */
  lead(steal = false): void {
    this.#hold(this.name, () => this.listener.lead(), steal ? { steal } : undefined);
  }

  /** Holds a lock until this tab leaves, or only until `begin` says so. */
  #hold(name: string, begin: () => unknown, options: LockOptions = { signal: this.#left.signal }): void {
    const { signal } = this.#left;
    navigator.locks
      .request(name, options, () => {
        if (signal.aborted || begin()) return undefined;
        return new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      })
      .catch(() => {
        if (signal.aborted) return;
        this.listener.follow();
        this.lead();
      });
  }
}

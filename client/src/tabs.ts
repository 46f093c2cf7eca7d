/** The tabs of an origin that share streams: one of them leads, and all of them hear each other. */

/** What one tab wants to know of the others. */
export interface TabListener {
  /** This tab can hear and be heard. */
  entered(): void;
  /** This tab leads from now on: no other does. */
  lead(): void;
  /** Another tab has taken the lead, since this one did not answer. */
  follow(): void;
  /** A message of another tab. */
  heard(from: string, message: unknown): void;
  /** A tab that is watched has ended. */
  gone(tab: string): void;
  /** The browser denies this page what tabs need to share. */
  denied(): void;
}

/** This tab among the others. */
export interface Tabs {
  readonly id: string;
  say(message: unknown): void;
  /** Tells the listener when this tab has ended. */
  watch(tab: string): void;
  /** Takes the lead from a tab that does not answer. */
  steal(): void;
  /** Gives the lead to the next tab. */
  resign(): void;
  leave(): void;
}

/** Whether this page can share streams: Web Locks need a secure context. */
export const canShare = (): boolean => !!globalThis.navigator?.locks && !!globalThis.BroadcastChannel;

/**
 * The browser gives the lock of the leading tab to the next one when the tab ends, however it ends. Each tab also holds a
 * lock of its own, by which the leading tab sees when it ends.
 *
 * @param name Of the group of tabs.
 */
export function enterTabs(name: string, listener: TabListener): Tabs {
  const id = `${Math.random()}`;
  const left = new AbortController();
  const { signal } = left;
  const watched = new Set([id]);
  let channel: BroadcastChannel | undefined;
  let release: (() => void) | undefined;

  /** Holds a lock until this tab leaves, or until `begin` or what it returns says so. */
  const hold = (lock: string, begin: (release: () => void) => void, options: LockOptions = { signal }): Promise<unknown> => {
    let wasHeld = false;
    const held = (): Promise<void> | undefined => {
      if (signal.aborted) return undefined;
      return new Promise((resolve) => {
        signal.addEventListener("abort", () => resolve());
        begin(resolve);
        wasHeld = true;
      });
    };
    return navigator.locks.request(lock, options, held).catch(() => {
      if (signal.aborted) return;
      if (!wasHeld) return listener.denied();
      listener.follow();
      queue();
    });
  };
  const queue = (options?: LockOptions): void => {
    const lead = (resolve: () => void): void => {
      release = resolve;
      listener.lead();
    };
    void hold(name, lead, options);
  };

  void hold(name + id, () => {
    channel = new BroadcastChannel(name);
    channel.onmessage = ({ data }: MessageEvent<[string, unknown]>) => listener.heard(...data);
    listener.entered();
    queue();
  });
  return {
    id,
    say: (message) => channel?.postMessage([id, message]),
    watch: (tab) => {
      if (watched.has(tab)) return;
      watched.add(tab);
      const ended = (release: () => void): void => {
        watched.delete(tab);
        release();
        listener.gone(tab);
      };
      void hold(name + tab, ended);
    },
    steal: () => queue({ steal: true }),
    resign: () => {
      release?.();
      listener.follow();
      queue();
    },
    leave: () => {
      left.abort();
      channel?.close();
    },
  };
}

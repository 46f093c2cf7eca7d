/** One stream of a hub that lasts: it connects again after every end, until it is closed. */

import { pauseAfter, retryAfter, type BackoffBounds } from "./backoff.js";
import type { Gap, Refusal, State } from "./event.js";
import { Parser, type Block } from "./parser.js";
import { subscribeUrl, type Hub, type Selector } from "./selector.js";

/** Where a token comes from. It is asked for at each connect, with the topics that the stream is for. */
export type Token = string | ((topics: string[]) => string | undefined | Promise<string | undefined>);

/** How a stream connects. */
export interface Connecting {
  readonly token?: Token | undefined;
  readonly credentials?: RequestCredentials | undefined;
  readonly backoff?: BackoffBounds | undefined;
  /** How often the hub sends a sign of life, in milliseconds. */
  readonly keepAlive?: number | undefined;
}

/** What the page should know. */
export type News = readonly ["onGap", Gap] | readonly ["onRefusal", Refusal];

/** What a stream tells its owner. */
export interface StreamListener {
  /** Its state is another, or it is live now. If it is open now, it begins behind its cursor. */
  changed(stream: Stream): void;
  /** Blocks, as they came together. Those that only name a cursor have no data. */
  received(stream: Stream, blocks: Block[]): void;
  told(stream: Stream, ...what: News): void;
}

/** The type of the events with which petasos names a cursor. */
const CURSOR_TYPE = "petasos-cursor";

/** More than any update that a hub takes by default (1 MiB). */
const EVENT_SIZE_MAX = 2 << 20;

/** A stream that has lasted for so long has been worth something, though nothing came. */
const WORTHWHILE = 5000;

/** A hub without the extension may send nothing for long. */
const FIRST_BYTES = 1000;

/** The keep-alive of petasos, and the longest default of other hubs, in milliseconds. */
const KEEP_ALIVE = 15_000;
const KEEP_ALIVE_ELSEWHERE = 40_000;

/** What is thrown for an answer in the place of a stream. */
interface Refused {
  refusal: Refusal;
  retryAfter: number;
}

export class Stream {
  state: State = "connecting";
  /** Whether the hub has the extension `petasos-multiplex`. Unknown until the first bytes have come. */
  isMultiplex: boolean | undefined;
  /** Everything that the hub had has come. Only a hub with the extension says so; of others it is assumed. */
  isLive = false;
  #connection: AbortController | undefined;
  #wake: (() => void) | undefined;
  #failures = 0;
  #heard = 0;
  #retry: number | undefined;
  #watch = setInterval(() => this.#check(), 5000);

  /** @param cursor The id after which the stream begins. Empty: it begins now. */
  constructor(
    readonly hub: Hub,
    readonly selectors: readonly Selector[],
    public cursor: string,
    readonly options: Connecting,
    readonly listener: StreamListener,
  ) {
    void this.#run();
  }

  /** For good. The listener hears nothing more. */
  close(): void {
    this.state = "closed";
    clearInterval(this.#watch);
    this.#connection?.abort();
    this.#wake?.();
  }

  /** Connects now, if it waits. What the hub has asked for with `Retry-After` is still kept. */
  wake(): void {
    this.#wake?.();
    this.#check();
  }

  /** Ends the connection if it has been silent for too long: a computer that slept has sockets without another end. */
  #check(): void {
    const keepAlive = this.options.keepAlive ?? (this.isMultiplex ? KEEP_ALIVE : KEEP_ALIVE_ELSEWHERE);
    if (Date.now() - this.#heard > 2.5 * keepAlive) this.#connection?.abort();
  }

  #isClosed(): boolean {
    return this.state === "closed";
  }

  #enter(state: State): void {
    if (this.state === state) return;
    this.state = state;
    this.listener.changed(this);
  }

  async #run(): Promise<void> {
    const { token, backoff = {} } = this.options;
    let wasRefused = false;
    while (!this.#isClosed()) {
      const connection = (this.#connection = new AbortController());
      this.#heard = Date.now();
      this.#enter("connecting");
      const refused = await this.#connect(connection.signal).catch((error: Partial<Refused>) => error);
      connection.abort();
      this.isLive = false;
      if (this.#isClosed()) return;
      const { refusal } = refused ?? {};
      const status = refusal?.status ?? 0;
      this.#enter(refusal ? "refused" : "waiting");
      if (refusal) this.listener.told(this, "onRefusal", refusal);
      await this.#sleep(refused?.retryAfter ?? 0, false);
      // A token that has ended: the next one is asked for at once, and only once.
      const isRenewed = token && !wasRefused && (status === 401 || status === 403);
      wasRefused = !!refusal;
      const isSlow = status > 0 && status < 500 && ![401, 403, 408, 425, 429].includes(status);
      const pause = pauseAfter(backoff, this.#failures++, this.#retry, isSlow);
      if (!isRenewed) await this.#sleep(pause, true);
    }
  }

  async #sleep(milliseconds: number, mayWake: boolean): Promise<void> {
    if (!milliseconds || this.#isClosed()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        if (!mayWake && !this.#isClosed()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }

  /** Until the stream ends. Throws {@link Refused} where it is not let in, and others where it breaks. */
  async #connect(signal: AbortSignal): Promise<undefined> {
    const { hub, selectors, cursor: asked, options } = this;
    const { token, credentials = "same-origin", backoff = {} } = options;
    const headers: Record<string, string> = { Accept: "text/event-stream, application/problem+json" };
    let bearer: string | undefined;
    try {
      bearer = await (typeof token === "function"
        ? Promise.race([
            token(selectors.map(([, value]) => value)),
            new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject("it has not answered"))),
          ])
        : token);
    } catch (error) {
      throw { refusal: { status: 0, title: "token() failed", detail: `${error}`, willRetry: true } };
    }
    if (bearer) headers.Authorization = `Bearer ${bearer}`;
    // Requests for the same URL would wait for each other, for the sake of the cache.
    const request: RequestInit = { headers, credentials, cache: "no-store", signal };
    const response = await fetch(subscribeUrl(hub, selectors, asked), request);
    const { status, body } = response;
    const field = (name: string): string => response.headers.get(name) ?? "";
    const type = field("Content-Type");
    if (status === 200 && body && type.startsWith("text/event-stream")) {
      // The field holds bytes, so it cannot be compared if there are others than ASCII. Not every hub lets scripts read it.
      const answered = field("Mercure-Last-Event-ID") || field("Last-Event-ID");
      await this.#read(body.getReader(), asked, /^[ -~]*$/.test(answered) ? answered : "");
      return;
    }
    let title = status === 200 ? `no event stream, but ${type || "nothing"}` : response.statusText;
    let detail: string | undefined;
    if (type.includes("json"))
      try {
        ({ title = title, detail } = (await response.json()) as { title?: string; detail?: string });
      } catch {
        // It is a refusal all the same.
      }
    throw {
      refusal: { status, title, ...(detail && { detail }), willRetry: true },
      retryAfter: retryAfter(backoff, field("Retry-After")),
    };
  }

  /** @param answered Where the stream begins, as the header field says. */
  async #read(reader: ReadableStreamDefaultReader<Uint8Array>, asked: string, answered: string): Promise<void> {
    const parser = new Parser(EVENT_SIZE_MAX);
    const begun = Date.now();
    let isKnown = false;
    const begin = (first?: Block): void => {
      isKnown = true;
      this.isMultiplex = first?.type === CURSOR_TYPE && first.data === "multiplex";
      this.isLive = !this.isMultiplex;
      const begins = (this.isMultiplex && first?.id) || answered;
      this.cursor ||= begins;
      this.#enter("open");
      if (asked && asked !== "earliest" && begins && begins !== asked) this.listener.told(this, "onGap", { asked, answered: begins });
    };
    const patience = setTimeout(() => isKnown || begin(), FIRST_BYTES);
    try {
      for (let part; !(part = await reader.read()).done && !this.#isClosed(); ) {
        this.#heard = Date.now();
        const blocks = parser.push(part.value);
        this.#retry = parser.retry ?? this.#retry;
        if (!isKnown && (blocks.length || parser.hasComment)) begin(blocks[0]);
        if (blocks.length) this.#hand(blocks);
      }
    } finally {
      clearTimeout(patience);
      if (Date.now() - begun > WORTHWHILE) this.#failures = 0;
    }
  }

  #hand(blocks: Block[]): void {
    let isLive = this.isLive;
    for (const block of blocks) {
      const { id = "", type, data, isTooLarge } = block;
      this.cursor = id || this.cursor;
      if (type === CURSOR_TYPE) {
        isLive ||= data === "live";
        delete block.data;
      } else this.#failures = 0;
      if (isTooLarge) this.listener.told(this, "onRefusal", { status: 413, title: "an event is too large", detail: id, willRetry: false });
    }
    this.listener.received(this, blocks);
    if (isLive === this.isLive || this.#isClosed()) return;
    this.isLive = isLive;
    this.listener.changed(this);
  }
}

/** One stream of a hub that lasts: it connects again after every end, until it is closed. */

import { Backoff, type BackoffBounds } from "./backoff.js";
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

/** What a stream tells its owner. */
export interface StreamListener {
  /** The hub has answered, and says where the stream begins. `asked`: the cursor of the request. */
  begun(stream: Stream, asked: string): void;
  /** Everything that the hub had at the beginning has come. Only a hub with `petasos-multiplex` says so. */
  live(stream: Stream): void;
  /** Blocks, as they came together. Those that only name a cursor have no data. */
  received(stream: Stream, blocks: Block[]): void;
  stateChanged(stream: Stream): void;
  gap(stream: Stream, gap: Gap): void;
  refused(stream: Stream, refusal: Refusal): void;
}

/** The type of the events with which petasos names a cursor. */
const CURSOR_TYPE = "petasos-cursor";

/** More than any update that a hub takes by default (1 MiB). */
const EVENT_SIZE_MAX = 2 << 20;

/** A stream that has lasted for so long has been worth something, though nothing came. */
const WORTHWHILE = 5000;

/** The keep-alive of petasos, and the longest default of other hubs, in milliseconds. */
const KEEP_ALIVE = 15_000;
const KEEP_ALIVE_ELSEWHERE = 40_000;

/** An answer in the place of a stream. */
class Refused extends Error {
  constructor(
    readonly refusal: Refusal,
    readonly retryAfter = 0,
  ) {
    super();
  }
}

export class Stream {
  state: State = "connecting";
  /** Whether the hub has the extension `petasos-multiplex`. Unknown until the first bytes have come. */
  isMultiplex: boolean | undefined;
  /** Whether everything that the hub had has come. */
  isLive = false;
  #backoff: Backoff;
  #connection: AbortController | undefined;
  #wake: (() => void) | undefined;
  #heard = 0;
  #watch: ReturnType<typeof setInterval>;
  #retry: number | undefined;
  #tokenWasRenewed = false;

  /** @param cursor The id after which the stream begins. Empty: it begins now. */
  constructor(
    readonly hub: Hub,
    readonly selectors: readonly Selector[],
    public cursor: string,
    readonly options: Connecting,
    readonly listener: StreamListener,
  ) {
    this.#backoff = new Backoff(options.backoff ?? {});
    this.#watch = setInterval(() => this.check(), 5000);
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
    this.check();
  }

  /** Ends the connection if it has been silent for too long: a computer that slept has sockets without another end. */
  check(): void {
    const keepAlive = this.options.keepAlive ?? (this.isMultiplex ? KEEP_ALIVE : KEEP_ALIVE_ELSEWHERE);
    if (Date.now() - this.#heard > 2.5 * keepAlive) this.#connection?.abort();
  }

  async #run(): Promise<void> {
    while (!this.#isClosed()) {
      let pause = 0;
      let least = 0;
      try {
        await this.#connect();
      } catch (error) {
        if (this.#isClosed()) return;
        if (error instanceof Refused) {
          const { status } = error.refusal;
          this.#enter("refused");
          this.listener.refused(this, error.refusal);
          least = error.retryAfter;
          // A token that has ended: the next one is asked for at once, and only once.
          if ((status === 401 || status === 403) && this.options.token && !this.#tokenWasRenewed) {
            this.#tokenWasRenewed = true;
            continue;
          }
          pause = this.#backoff.next(this.#retry, isLasting(status) ? 5 : 1);
        }
      }
      if (this.#isClosed()) return;
      if (this.state !== "refused") {
        this.#enter("waiting");
        pause = this.#backoff.next(this.#retry);
      }
      await this.#sleep(least);
      await this.#sleep(pause, true);
    }
  }

  #isClosed(): boolean {
    return this.state === "closed";
  }

  #enter(state: State): void {
    if (this.state === state) return;
    this.state = state;
    this.listener.stateChanged(this);
  }

  async #sleep(milliseconds: number, mayWake = false): Promise<void> {
    if (milliseconds <= 0 || this.#isClosed()) return;
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

  /** Until the stream ends. Throws where it could not begin, or broke. */
  async #connect(): Promise<void> {
    const connection = (this.#connection = new AbortController());
    const { signal } = connection;
    this.#heard = Date.now();
    this.isLive = false;
    this.#enter("connecting");
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream, application/problem+json" };
      const token = await this.#token(signal);
      if (token) headers.Authorization = `Bearer ${token}`;
      signal.throwIfAborted();
      const asked = this.cursor;
      const response = await fetch(subscribeUrl(this.hub, this.selectors, asked), {
        headers,
        credentials: this.options.credentials ?? "same-origin",
        // Requests for the same URL would wait for each other, for the sake of the cache.
        cache: "no-store",
        signal,
      });
      const type = response.headers.get("Content-Type") ?? "";
      if (response.status !== 200 || !type.startsWith("text/event-stream") || !response.body)
        throw await this.#refusal(response, type);
      await this.#read(response.body, asked, response.headers);
    } finally {
      this.#connection = undefined;
      connection.abort();
    }
  }

  async #token(signal: AbortSignal): Promise<string | undefined> {
    const { token } = this.options;
    if (typeof token !== "function") return token;
    const topics = this.selectors.map(([, value]) => value);
    try {
      return await Promise.race([
        token(topics),
        new Promise<never>((_, reject) => {
          signal.addEventListener("abort", () => reject(new Error("it has not answered")));
        }),
      ]);
    } catch (error) {
      throw new Refused({ status: 0, title: "token() failed", detail: String(error), willRetry: true });
    }
  }

  async #refusal(response: Response, type: string): Promise<Refused> {
    const { status, headers } = response;
    let title = response.statusText;
    let detail: string | undefined;
    if (status === 200) title = `the answer is no event stream, but ${type || "of no type"}`;
    if (type.includes("json")) {
      // An answer that breaks off is a refusal, too.
      const problem = (await response.json().catch(() => undefined)) as Partial<Record<string, unknown>> | undefined;
      title = String(problem?.title ?? title);
      if (problem?.detail) detail = String(problem.detail);
    }
    const refusal = { status, ...(title ? { title } : {}), ...(detail ? { detail } : {}), willRetry: true };
    return new Refused(refusal, this.#backoff.retryAfter(headers.get("Retry-After")));
  }

  async #read(body: ReadableStream<Uint8Array>, asked: string, headers: Headers): Promise<void> {
    const parser = new Parser(EVENT_SIZE_MAX);
    const reader = body.getReader();
    const begun = Date.now();
    let isKnown = false;
    const begin = (isMultiplex: boolean, answered: string): void => {
      isKnown = true;
      this.isMultiplex = isMultiplex;
      this.#tokenWasRenewed = false;
      const isLost = asked && asked !== "earliest" && answered && answered !== asked;
      this.cursor ||= answered;
      this.#enter("open");
      this.listener.begun(this, asked);
      if (isLost) this.listener.gap(this, { asked, answered });
    };
    // Where the header field cannot tell: other hubs let scripts read it, but it holds bytes, not characters.
    const field = headers.get("Mercure-Last-Event-ID") ?? headers.get("Last-Event-ID") ?? "";
    const answered = /^[ -~]*$/.test(field) ? field : "";
    // A hub without the extension may send nothing for long.
    const patience = setTimeout(() => isKnown || begin(false, answered), 3000);
    try {
      for (let part; !(part = await reader.read()).done; ) {
        this.#heard = Date.now();
        const blocks = parser.push(part.value);
        this.#retry = parser.retry ?? this.#retry;
        const first = blocks[0];
        if (!isKnown && (first || parser.hasComment)) {
          const isMultiplex = first?.type === CURSOR_TYPE && first.data === "multiplex";
          begin(isMultiplex, isMultiplex ? (first.id ?? "") : answered);
        }
        this.#hand(blocks);
        if (blocks.some((block) => block.type !== CURSOR_TYPE)) this.#backoff.reset();
      }
    } finally {
      clearTimeout(patience);
      if (Date.now() - begun > WORTHWHILE) this.#backoff.reset();
    }
  }

  /** Hands the blocks on, and says at the right moment among them that the stream is live. */
  #hand(blocks: Block[]): void {
    let waiting: Block[] = [];
    const flush = (): void => {
      if (waiting.length) this.listener.received(this, waiting);
      waiting = [];
    };
    for (const block of blocks) {
      const { id, type, data, topics } = block;
      // The page may have closed it while it heard of something.
      if (this.#isClosed()) return;
      this.cursor = id || this.cursor;
      if (block.isTooLarge) {
        const title = `an event is larger than ${EVENT_SIZE_MAX} characters`;
        this.listener.refused(this, { status: 413, title, detail: id ?? "", willRetry: false });
      }
      const isCursor = type === CURSOR_TYPE || block.isTooLarge;
      waiting.push(isCursor ? { ...(id === undefined ? {} : { id }), type: "", topics } : block);
      if (type === CURSOR_TYPE && data === "live") {
        flush();
        if (!this.isLive) {
          this.isLive = true;
          this.listener.live(this);
        }
      }
    }
    flush();
  }
}

/** Whether an answer hardly changes by itself. */
function isLasting(status: number): boolean {
  return status < 500 && ![0, 401, 403, 408, 425, 429].includes(status);
}

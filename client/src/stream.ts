/** One stream of a hub that lasts: it connects again after every end, until it is closed. */

import { pauseAfter, retryAfter, type BackoffBounds } from "./backoff.js";
import type { Gap, Refusal, State } from "./event.js";
import { createParser, type Block } from "./parser.js";
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
const MORE_BYTES = 100;

/** A page that asks for new credentials at each refusal does not shorten the wait. */
const HASTE = 1000;

/** The keep-alive of petasos, and the longest default of other hubs, in milliseconds. */
const KEEP_ALIVE = 15_000;
const KEEP_ALIVE_ELSEWHERE = 40_000;

/** What is thrown for an answer in the place of a stream. */
interface Refused {
  refusal: Refusal;
  retryAfter: number;
}

export interface Stream {
  /** Those of the present attempt, or of the next one if it waits. */
  selectors: readonly Selector[];
  /** The id after which it goes on. Empty: nothing is known. */
  cursor: string;
  state: State;
  /** Whether the hub has the extension `petasos-multiplex`. Unknown until the first bytes have come. */
  isMultiplex: boolean | undefined;
  /** Everything that the hub had has come. Only a hub with the extension says so; of others it is assumed. */
  isLive: boolean;
  /** For good. The listener hears nothing more. */
  close(): void;
  /** How many attempts in a row had no answer at all. */
  unanswered: number;
  /** Connects now, if it waits. What the hub has asked for with `Retry-After` is still kept. */
  wake(): void;
  /** Ends the connection if it has been silent for too long: a computer that slept has sockets without another end. */
  check(): void;
  /** Asks for these topics from the next attempt on. */
  retarget(selectors: readonly Selector[]): void;
}

/** @param cursor The id after which the stream begins. Empty: it begins now. */
export function openStream(
  hub: Hub,
  selectors: readonly Selector[],
  cursor: string,
  { token, credentials = "same-origin", backoff = {}, keepAlive }: Connecting,
  listener: StreamListener,
): Stream {
  let connection: AbortController | undefined;
  let endSleep: (() => void) | undefined;
  let failures = 0;
  let heard = 0;
  let retry: number | undefined;

  const stream: Stream = {
    selectors,
    cursor,
    state: "connecting",
    isMultiplex: undefined,
    isLive: false,
    unanswered: 0,
    close() {
      stream.state = "closed";
      clearInterval(watch);
      connection?.abort();
      endSleep?.();
    },
    wake() {
      endSleep?.();
      stream.check();
    },
    check() {
      const silence = keepAlive ?? (stream.isMultiplex ? KEEP_ALIVE : KEEP_ALIVE_ELSEWHERE);
      if (Date.now() - heard > 2.5 * silence) connection?.abort();
    },
    retarget(selectors) {
      // A refusal for the same topics would come again.
      const isNew = `${stream.selectors}` !== `${selectors}`;
      stream.selectors = selectors;
      if (isNew || Date.now() - heard > HASTE) endSleep?.();
    },
  };
  const isClosed = (): boolean => stream.state === "closed";
  const enter = (state: State): void => {
    if (stream.state === state) return;
    stream.state = state;
    listener.changed(stream);
  };

  const watch = setInterval(() => stream.check(), 5000);

  const sleep = async (milliseconds: number, mayWake: boolean): Promise<void> => {
    if (!milliseconds || isClosed()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      endSleep = () => {
        if (!mayWake && !isClosed()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    endSleep = undefined;
  };

  const run = async (): Promise<void> => {
    let wasRefused = false;
    while (!isClosed()) {
      connection = new AbortController();
      heard = Date.now();
      enter("connecting");
      const refused = await connect(connection.signal).catch((error: Partial<Refused>) => error);
      connection.abort();
      stream.isLive = false;
      if (isClosed()) return;
      const { refusal } = refused ?? {};
      stream.unanswered = refusal || refused === undefined ? 0 : stream.unanswered + 1;
      const status = refusal?.status ?? 0;
      enter(refusal ? "refused" : "waiting");
      if (refusal) listener.told(stream, "onRefusal", refusal);
      await sleep(refused?.retryAfter ?? 0, false);
      // A token that has ended: the next one is asked for at once, and only once.
      const isForbidden = status === 401 || status === 403;
      const isRenewed = token && !wasRefused && isForbidden;
      wasRefused = !!refusal;
      const isSlow = status > 0 && status < 500 && !isForbidden && ![408, 425, 429].includes(status);
      const pause = pauseAfter(backoff, failures++, retry, isSlow);
      if (!isRenewed) await sleep(pause, true);
    }
  };

  /** Until the stream ends. Throws {@link Refused} where it is not let in, and others where it breaks. */
  const connect = async (signal: AbortSignal): Promise<undefined> => {
    const { cursor: asked, selectors } = stream;
    const headers: Record<string, string> = { Accept: "text/event-stream, */*" };
    const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject("no answer")));
    const ask = async (): Promise<string | undefined> =>
      typeof token === "function" ? token(selectors.map(([, value]) => value)) : token;
    const bearer = await Promise.race([ask(), aborted]).catch((error) => {
      throw { refusal: { status: 0, title: "token() failed", detail: `${error}`, willRetry: true } };
    });
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
      await read(body.getReader(), asked, /^[ -~]*$/.test(answered) ? answered : "");
      return;
    }
    // An answer that is no problem document is a refusal, too.
    const problem = type.includes("json") ? ((await response.json().catch(() => undefined)) as Partial<Refusal> | null) : null;
    const { title = response.statusText, detail = type } = problem ?? {};
    throw { refusal: { status, title, detail, willRetry: true }, retryAfter: retryAfter(backoff, field("Retry-After")) };
  };

  /** @param answered Where the stream begins, as the header field says. */
  const read = async (reader: ReadableStreamDefaultReader<Uint8Array>, asked: string, answered: string): Promise<void> => {
    const parser = createParser(EVENT_SIZE_MAX);
    const begun = Date.now();
    let isKnown = false;
    const begin = (first?: Block): void => {
      if (isKnown) return;
      isKnown = true;
      const isMultiplex = first?.type === CURSOR_TYPE && first.data === "multiplex";
      const begins = (isMultiplex && first.id) || answered;
      stream.isMultiplex = isMultiplex;
      // A stream without a cursor begins now: all that it brings is new, also before the hub says that it is live.
      stream.isLive = !isMultiplex || !asked;
      stream.cursor ||= begins;
      enter("open");
      if (asked && asked !== "earliest" && begins && begins !== asked) listener.told(stream, "onGap", { asked, answered: begins });
    };
    let patience = setTimeout(begin, FIRST_BYTES);
    try {
      for (let part; !(part = await reader.read()).done && !isClosed(); ) {
        heard = Date.now();
        const blocks = parser.push(part.value);
        retry = parser.retry ?? retry;
        if (blocks[0] || parser.hasComment) begin(blocks[0]);
        else if (!isKnown) {
          // The rest of the first event comes at once, if there is one.
          clearTimeout(patience);
          patience = setTimeout(begin, MORE_BYTES);
        }
        if (blocks[0]) hand(blocks);
      }
    } finally {
      clearTimeout(patience);
      if (Date.now() - begun > WORTHWHILE) failures = 0;
    }
  };

  const hand = (blocks: Block[]): void => {
    let isLive = false;
    const later: Block[] = [];
    for (const block of blocks.splice(0)) {
      // Listeners learn that the stream is live before what comes behind that.
      (isLive ? later : blocks).push(block);
      if (isLive) continue;
      const { id = "", type, data, isTooLarge } = block;
      stream.cursor = id || stream.cursor;
      if (type === CURSOR_TYPE) {
        // Something on the way may have kept it back.
        stream.isMultiplex ||= data === "multiplex";
        isLive = data === "live";
        delete block.data;
      } else failures = 0;
      if (isTooLarge) listener.told(stream, "onRefusal", { status: 413, title: "an event is too large", detail: id, willRetry: false });
    }
    listener.received(stream, blocks);
    if (!isLive || isClosed()) return;
    stream.isLive = isLive;
    listener.changed(stream);
    if (later[0]) hand(later);
  };

  void run();
  return stream;
}

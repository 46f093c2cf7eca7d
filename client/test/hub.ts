/** A hub for tests: a log, streams from it, and everything that can go wrong with an answer. */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Update {
  id: string;
  topics: string[];
  data: string;
  type: string;
}

interface OpenStream {
  topics: string[];
  token: string | undefined;
  cursor: string;
  url: URL;
  response: ServerResponse;
}

export interface Answer {
  status: number;
  headers?: Record<string, string>;
  body?: string;
}

export class TestHub {
  log: Update[] = [];
  streams: OpenStream[] = [];
  /** Every request that has come. */
  requests: URL[] = [];
  tokens: (string | undefined)[] = [];
  /** Whether answers are kept back, and those that are. */
  isHeld = false;
  held: ServerResponse[] = [];
  /** The next answers, in place of streams. */
  refusals: Answer[] = [];
  isMultiplex = true;
  /** Streams begin with this. */
  opening = "retry: 20\n";
  /** In place of the ids that requests ask for, as a hub answers that has lost its log. */
  answered: string | undefined;
  /** A private hub refuses all other tokens. */
  accepts: ((token: string | undefined, url: URL) => Answer | undefined) | undefined;
  #server: Server;
  #count = 0;

  private constructor() {
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async start(): Promise<TestHub> {
    const hub = new TestHub();
    await new Promise<void>((resolve) => hub.#server.listen(0, "127.0.0.1", resolve));
    return hub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/.well-known/mercure`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  publish(topic: string | string[], data: string, type = "", id = `id-${++this.#count}`): string {
    const update = { id, topics: [topic].flat(), data, type };
    this.log.push(update);
    for (const stream of this.streams) this.#send(stream, update);
    return id;
  }

  /** Writes bytes to every stream. */
  write(text: string | Uint8Array): void {
    for (const { response } of this.streams) response.write(text);
  }

  keepAlive(): void {
    const id = this.log.at(-1)?.id ?? "earliest";
    this.write(this.isMultiplex ? `event: petasos-cursor\nid: ${id}\ndata: \n\n` : ":\n");
  }

  /** Sends what was kept back. */
  release(): void {
    this.isHeld = false;
    for (const response of this.held.splice(0)) response.uncork();
  }

  /** Cuts every connection. */
  cut(): void {
    for (const { response } of this.streams.splice(0)) response.destroy();
  }

  /** Ends every stream as a hub does. */
  end(): void {
    for (const { response } of this.streams.splice(0)) response.end();
  }

  #send({ topics, response }: OpenStream, update: Update): void {
    if (!topics.some((topic) => topic === "*" || update.topics.includes(topic))) return;
    let text = "";
    if (this.isMultiplex) for (const topic of update.topics) text += `topic: ${topic}\n`;
    if (update.type) text += `event: ${update.type}\n`;
    text += `id: ${update.id}\n`;
    for (const line of update.data.split("\n")) text += `data: ${line}\n`;
    response.write(`${text}\n`);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", this.url);
    const token = request.headers.authorization?.replace("Bearer ", "");
    this.requests.push(url);
    this.tokens.push(token);
    const refusal = this.refusals.shift() ?? this.accepts?.(token, url);
    if (refusal) {
      response.writeHead(refusal.status, refusal.headers);
      response.end(refusal.body);
      return;
    }
    const query = url.searchParams;
    const asked = query.get("lastEventID") ?? query.get("last_event_id") ?? "";
    const index = this.log.findIndex(({ id }) => id === asked);
    const isKnown = index >= 0 && this.answered === undefined;
    const newest = this.log.at(-1)?.id ?? "earliest";
    const answered = this.answered ?? (asked && !isKnown ? "earliest" : asked || newest);
    this.answered = undefined;
    if (this.isHeld) {
      response.cork();
      this.held.push(response);
    }
    response.writeHead(200, {
      "Content-Type": "text/event-stream",
      "Mercure-Last-Event-ID": Buffer.from(answered).toString("latin1"),
    });
    const topics = [...query.getAll("topic"), ...query.getAll("match")];
    const stream = { topics, token, cursor: asked, url, response };
    const hasExtension = this.isMultiplex && query.has("petasos-multiplex");
    response.write(this.opening + (hasExtension ? `event: petasos-cursor\nid: ${answered}\ndata: multiplex\n\n` : ":\n"));
    for (const update of asked ? this.log.slice(isKnown ? index + 1 : 0) : []) this.#send(stream, update);
    if (hasExtension) response.write(`event: petasos-cursor\nid: ${newest}\ndata: live\n\n`);
    this.streams.push(stream);
    response.on("close", () => {
      this.streams = this.streams.filter((other) => other !== stream);
    });
  }
}

/** Waits until something is so; fails with what `found` gives. */
export async function until(condition: () => boolean, found: () => unknown = () => ""): Promise<void> {
  const end = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${condition}: ${JSON.stringify(found())}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

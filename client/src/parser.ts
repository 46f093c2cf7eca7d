/** Server-sent events from bytes (HTML standard, section "Interpreting an event stream"). */

/** What one block of an event stream says. */
export interface Block {
  /** The field `id` of this block. Absent: the block has none. */
  id?: string;
  /** `message` where the block names no type. */
  type: string;
  /** Absent: the block has no data, so it is no event. It may still name a cursor. */
  data?: string;
  /** The fields `topic`, with which petasos names the topics of an update, the canonical topic first. */
  topics: string[];
  /** The event is larger than the parser's bound, so its data was dropped. */
  isTooLarge?: boolean;
}

/**
 * Reads one stream. The bytes may be cut anywhere: in a character, between CR and LF, in a field.
 *
 * A block that is not complete when the stream ends is dropped, as the standard says.
 */
export class Parser {
  /** The last field `retry`, in milliseconds. */
  retry: number | undefined;
  /** Whether a comment was read. */
  hasComment = false;
  /** The decoder removes a byte order mark at the beginning. */
  #decoder = new TextDecoder();
  /** Text whose line is not complete. */
  #rest = "";
  /** The last line ended with CR, so an LF that follows belongs to it. */
  #skipsLF = false;
  #block: Block = { type: "", topics: [] };
  #data: string[] = [];
  #size = 0;

  /** @param sizeMax The most characters of one event, so that a stream cannot fill the memory of the page. */
  constructor(readonly sizeMax: number) {}

  /** Returns the blocks that the bytes complete. */
  push(bytes: Uint8Array): Block[] {
    const blocks: Block[] = [];
    const before = this.#rest.length;
    const text = this.#rest + this.#decoder.decode(bytes, { stream: true });
    const ends = /[\r\n]/g;
    let begin = 0;
    // What was there before has no end of a line.
    ends.lastIndex = before;
    for (let end; (end = ends.exec(text)); begin = end.index + 1) {
      const { index } = end;
      const isLF = text[index] === "\n";
      const isSecondHalf = isLF && this.#skipsLF && index === begin;
      this.#skipsLF = !isLF;
      if (!isSecondHalf) this.#line(text.slice(begin, index), blocks);
    }
    this.#rest = text.slice(begin);
    if (this.#rest.length + this.#size > this.sizeMax) {
      this.#drop();
      // What follows on this line is dropped as well.
      this.#rest = "data:";
    }
    return blocks;
  }

  #drop(): void {
    this.#block.isTooLarge = true;
    this.#data = [];
    this.#size = 0;
  }

  #line(line: string, blocks: Block[]): void {
    const block = this.#block;
    if (!line) {
      if (this.#data.length && !block.isTooLarge) block.data = this.#data.join("\n");
      block.type ||= "message";
      // A comment alone makes no block.
      if (block.data !== undefined || block.id !== undefined || block.isTooLarge) blocks.push(block);
      this.#block = { type: "", topics: [] };
      this.#data = [];
      this.#size = 0;
      return;
    }
    const colon = line.indexOf(":");
    // Keep-alive comments come without a blank line behind them.
    if (colon === 0) {
      this.hasComment = true;
      return;
    }
    this.#size += line.length;
    if (this.#size > this.sizeMax) this.#drop();
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") block.isTooLarge || this.#data.push(value);
    else if (name === "id") value.includes("\0") || (block.id = value);
    else if (name === "event") block.type = value;
    else if (name === "topic") block.topics.push(value);
    else if (name === "retry" && /^\d+$/.test(value)) this.retry = +value;
  }
}

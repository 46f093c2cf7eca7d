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
  hasComment = false;
  /** The decoder removes a byte order mark at the beginning. */
  #decoder = new TextDecoder();
  /** Text whose line is not complete. */
  #rest = "";
  /** The text ended with CR, so an LF that follows belongs to it. */
  #endedWithCR = false;
  #block: Block = { type: "", topics: [] };
  /** Of the lines of this block. */
  #size = 0;

  /** @param sizeMax The most characters of one event, so that a stream cannot fill the memory of the page. */
  constructor(readonly sizeMax: number) {}

  /** Returns the blocks that the bytes complete. */
  push(bytes: Uint8Array): Block[] {
    const blocks: Block[] = [];
    const text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return blocks;
    const lines = (this.#rest + text.slice(+(this.#endedWithCR && text[0] === "\n"))).split(/\r\n?|\n/);
    this.#endedWithCR = text.endsWith("\r");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const block = this.#block;
      // An empty line matches, too.
      const [, name, value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
      if (!line) {
        block.type ||= "message";
        if (block.data !== undefined || block.id !== undefined || block.isTooLarge) blocks.push(block);
        this.#block = { type: "", topics: [] };
        this.#size = 0;
      } else if (!name) {
        // A keep-alive comment comes without a blank line behind it, so it does not count.
        this.hasComment = true;
      } else {
        this.#bound((this.#size += line.length));
        if (name === "data") block.isTooLarge || (block.data = block.data === undefined ? value : `${block.data}\n${value}`);
        else if (name === "id") value.includes("\0") || (block.id = value);
        else if (name === "event") block.type = value;
        else if (name === "topic") block.topics.push(value);
        else if (name === "retry" && /^\d+$/.test(value)) this.retry = +value;
      }
    }
    // What follows on this line is dropped as well.
    if (this.#bound(this.#size + this.#rest.length)) this.#rest = "data:";
    return blocks;
  }

  /** Drops the data of an event that is too large. */
  #bound(size: number): boolean {
    if (size <= this.sizeMax) return false;
    this.#block.isTooLarge = true;
    delete this.#block.data;
    this.#size = 0;
    return true;
  }
}

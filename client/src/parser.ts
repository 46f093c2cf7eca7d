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

export interface Parser {
  /** The last field `retry`, in milliseconds. */
  retry: number | undefined;
  hasComment: boolean;
  /** Returns the blocks that the bytes complete. */
  push(bytes: Uint8Array): Block[];
}

/**
 * Reads one stream. The bytes may be cut anywhere: in a character, between CR and LF, in a field.
 *
 * A block that is not complete when the stream ends is dropped, as the standard says.
 *
 * @param sizeMax The most characters of one event, so that a stream cannot fill the memory of the page.
 */
export function createParser(sizeMax: number): Parser {
  // The decoder removes a byte order mark at the beginning.
  const decoder = new TextDecoder();
  /** Text whose line is not complete. */
  let rest = "";
  /** The text ended with CR, so an LF that follows belongs to it. */
  let endedWithCR = false;
  let block: Block = { type: "", topics: [] };
  /** Of the lines of this block. */
  let size = 0;

  /** Drops the data of an event that is too large. */
  const bound = (more: number): void => {
    if (size + more <= sizeMax) return;
    size = Infinity;
    block.isTooLarge = true;
    delete block.data;
    // What follows on this line is dropped as well.
    if (more) rest = "data:";
  };

  const parser: Parser = {
    retry: undefined,
    hasComment: false,
    push(bytes) {
      const blocks: Block[] = [];
      const text = decoder.decode(bytes, { stream: true });
      if (!text) return blocks;
      const lines = (rest + text.slice(+(endedWithCR && text[0] === "\n"))).split(/\r\n?|\n/);
      endedWithCR = text.endsWith("\r");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        // An empty line matches, too.
        const [, name, value = ""] = /^([^:]*):? ?(.*)$/s.exec(line) ?? [];
        if (!line) {
          block.type ||= "message";
          if (block.data !== undefined || block.id !== undefined || block.isTooLarge) blocks.push(block);
          block = { type: "", topics: [] };
          size = 0;
        } else if (!name) {
          // A keep-alive comment comes without a blank line behind it, so it does not count.
          parser.hasComment = true;
        } else {
          if (name === "data") block.data = block.data === undefined ? value : `${block.data}\n${value}`;
          else if (name === "id") value.includes("\0") || (block.id = value);
          else if (name === "event") block.type = value;
          else if (name === "topic") block.topics.push(value);
          else if (name === "retry" && /^\d+$/.test(value)) parser.retry = +value;
          size += line.length;
          bound(0);
        }
      }
      bound(rest.length);
      return blocks;
    },
  };
  return parser;
}

/** The ids that were heard last, so that nothing is heard twice. */

/** More than a hub sends between two connections of a page, with room. */
const RECENT_MAX = 1000;

export class Recent {
  #ids = new Set<string>();

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** Remembers the id. Returns whether it is new; an event without an id always is. */
  isNew(id: string | undefined): boolean {
    if (!id) return true;
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > RECENT_MAX) for (const oldest of this.#ids) return this.#ids.delete(oldest);
    return true;
  }
}

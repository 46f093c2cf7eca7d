/** Web Locks for tests: one queue for each name. Node has none. */

interface Request {
  begin: () => Promise<void>;
  end: (reason: Error) => void;
}

export class TestLocks {
  #queues = new Map<string, Request[]>();

  request(name: string, options: LockOptions, use: () => Promise<unknown> | undefined): Promise<unknown> {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    return new Promise((resolve, reject) => {
      const request: Request = {
        end: reject,
        begin: async () => {
          await new Promise((wake) => setImmediate(wake));
          if (queue[0] !== request) return;
          await Promise.resolve(use()).then(resolve, reject);
          this.#next(queue, request);
        },
      };
      if (options.steal) {
        queue.shift()?.end(new Error("stolen"));
        queue.unshift(request);
      } else queue.push(request);
      options.signal?.addEventListener("abort", () => {
        // A lock that is held is released by its owner.
        if (queue[0] === request) return;
        queue.splice(queue.indexOf(request) >>> 0, 1);
        reject(new Error("aborted"));
      });
      if (queue[0] === request) void request.begin();
    });
  }

  #next(queue: Request[], request: Request): void {
    if (queue[0] !== request) return;
    queue.shift();
    void queue[0]?.begin();
  }
}

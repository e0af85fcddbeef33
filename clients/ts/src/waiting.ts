// Waiting with a random part, so that the clients of a relay do not all come back at once.

/** A random time between 0 and d milliseconds, where d begins at one second and doubles up to a minute. */
export class Backoff {
  #limit = 1000;

  next(): number {
    const limit = this.#limit;
    this.#limit = Math.min(2 * limit, 60_000);
    return Math.random() * limit;
  }

  reset(): void {
    this.#limit = 1000;
  }
}

/** The relay's own wish, in seconds, and up to as much again. */
export const politely = (retryAfter: number): number => retryAfter * 1000 * (1 + Math.random());

/** Rejects with the signal's reason when it is aborted. */
export function wait(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** The promise, or the signal's reason when it is aborted first. What the promise stands for goes on. */
export function unless<T>(signal: AbortSignal | undefined, promise: Promise<T>): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}

// Waiting for events, never for time: everything that waits has a deadline and says what it waited for.

export const deadline = 10_000; // milliseconds

/** Resolves with the promise, or rejects with a sentence once the deadline has passed. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${deadline / 1000} s for ${what}, in vain`)), deadline);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A first-in, first-out queue with one reader. Items that were pushed before it failed can still be taken. */
export class Queue<T> {
  readonly #items: T[] = [];
  #failure: Error | undefined;
  #wake: () => void = () => {};

  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  fail(failure: Error): void {
    this.#failure ??= failure;
    this.#wake();
  }

  async take(what: string): Promise<T> {
    for (;;) {
      const item = this.#items.shift();
      if (item !== undefined) return item;
      if (this.#failure) throw this.#failure;
      await within(new Promise<void>((resolve) => (this.#wake = resolve)), what);
    }
  }
}

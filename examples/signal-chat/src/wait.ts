// Waiting for events, never for time: everything that waits has a deadline and says what it waited for.

const deadline = 10_000; // milliseconds

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

// Acknowledgements: gathered for a moment, kept until a socket is there, and remembered.
import type { Socket } from './socket.js';
import { encodeAck } from './wire.js';

const delay = 50; // milliseconds in which they are gathered
const batch = 1000; // of 18 bytes each; the relay takes frames of 64 KiB
const remembered = 2000; // the relay sends at most 1000 envelopes without an acknowledgement

export class Acks {
  readonly #pending = new Set<string>();
  readonly #done = new Set<string>(); // the oldest first
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `socket`: the one that is open, if any. */
  constructor(private readonly socket: () => Socket | undefined) {}

  has(id: string): boolean {
    return this.#done.has(id);
  }

  add(ids: string[]): void {
    for (const id of ids) {
      this.#pending.add(id);
      this.#done.delete(id);
      this.#done.add(id);
    }
    for (const id of this.#done) {
      if (this.#done.size <= remembered) break;
      this.#done.delete(id);
    }
    if (this.#pending.size >= batch) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), delay);
  }

  /** Sends what is pending; without a socket the next one begins with it. */
  flush(): void {
    this.stop();
    const socket = this.socket();
    if (!socket) return;
    const ids = [...this.#pending];
    this.#pending.clear();
    for (let i = 0; i < ids.length; i += batch) socket.send(encodeAck(ids.slice(i, i + batch)));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

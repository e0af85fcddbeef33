import { Acks } from './acks.js';
import { GatewayEnded, NetworkError, RelayError } from './errors.js';
import type { Socket, SocketListener } from './socket.js';
import { Backoff, politely, wait } from './waiting.js';
import { decodeFrame, type GatewayEvent } from './wire.js';

export interface GatewayOptions {
  /** Closes the gateway. */
  signal?: AbortSignal;
  /** For a user interface: called whenever the socket has opened, and whenever it has broken and will be opened again. */
  onStatus?: (status: GatewayStatus) => void;
}

/** `waiting`: for how many milliseconds, and why, if there is more to say than that the socket broke. */
export type GatewayStatus = { state: 'open' } | { state: 'waiting'; milliseconds: number; cause?: Error };

/** What a gateway needs of its session. */
export interface Door {
  ticket(signal: AbortSignal): Promise<string>;
  open(ticket: string, listener: SocketListener): Socket;
  renew(): Promise<void>;
  /** Renews the tokens if they are old. */
  keepFresh(): Promise<unknown>;
}

const closing = 5_000; // milliseconds that the closing handshake may take
const opening = 20_000;
const stable = 60_000; // a socket that lived so long makes the next wait a short one
const day = 86_400_000;

/**
 * The mail of a device: iterate over it, and acknowledge each envelope once it has been processed. Everything that was not acknowledged comes again when
 * the gateway is opened again, by itself after a broken connection or by you. Leaving a `for await` loop closes the gateway.
 *
 * The iteration ends with a `GatewayEnded` when opening it again would not help, with a `RelayError` when the relay refuses the session, and
 * without an error after `close`.
 */
export class Gateway implements AsyncIterableIterator<GatewayEvent> {
  readonly #door: Door;
  readonly #status: (status: GatewayStatus) => void;
  readonly #stop = new AbortController();
  readonly #finished: Promise<void>;
  #events: GatewayEvent[] = [];
  #failure: unknown;
  #over = false;
  #changed = signal();

  #socket: Socket | undefined; // while it is open
  #hurry = new AbortController(); // drops the socket, or ends the wait for the next one
  readonly #acks = new Acks(() => this.#socket);

  /** @internal Gateways come from a Session. */
  constructor(door: Door, { signal, onStatus = () => {} }: GatewayOptions) {
    this.#door = door;
    this.#status = onStatus;
    const close = () => void this.close();
    signal?.addEventListener('abort', close, { once: true });
    if (signal?.aborted) this.#stop.abort();
    // For a device that only receives: a session whose tokens are not renewed for 30 days ends. What fails is tried again tomorrow.
    const daily = setInterval(() => void door.keepFresh().catch(() => {}), day);
    this.#finished = this.#run().finally(() => {
      clearInterval(daily);
      signal?.removeEventListener('abort', close);
      this.#acks.stop();
      this.#over = true;
      this.#changed.now();
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<GatewayEvent, undefined>> {
    for (;;) {
      const event = this.#events.shift();
      if (event?.kind === 'envelope' && this.#acks.has(event.envelope.id)) {
        this.acknowledge(event.envelope.id); // the relay had not heard it
      } else if (event) {
        return { value: event, done: false };
      } else if (this.#failure !== undefined) {
        const failure = this.#failure;
        this.#failure = undefined;
        throw failure;
      } else if (this.#over) {
        return { value: undefined, done: true };
      } else {
        await this.#changed.promise;
      }
    }
  }

  async return(): Promise<IteratorResult<GatewayEvent, undefined>> {
    await this.close();
    return { value: undefined, done: true };
  }

  /** These envelopes are processed: the relay may forget them. Acknowledgements are sent a moment later, together. */
  acknowledge(...ids: string[]): void {
    this.#acks.add(ids);
  }

  /** Opens a new socket now. For a page that hears that it is online again: it cannot see that a connection is dead. */
  reconnect(): void {
    this.#hurry.abort();
  }

  /** Sends what is left to acknowledge, closes the socket and ends the iteration. What was received and not taken comes again next time. */
  async close(): Promise<void> {
    this.#acks.flush();
    this.#events = [];
    this.#stop.abort();
    await this.#finished;
  }

  async #run(): Promise<void> {
    const backoff = new Backoff();
    while (!this.#stop.signal.aborted) {
      const began = Date.now();
      let pause = 0;
      let cause: Error | undefined;
      const hurry = (this.#hurry = new AbortController());
      try {
        const code = await this.#connection(hurry.signal);
        if (this.#stop.signal.aborted) return;
        if (Date.now() - began > stable) backoff.reset();
        if (!hurry.signal.aborted) pause = await this.#after(code, backoff);
      } catch (failure) {
        if (this.#stop.signal.aborted) return;
        if (failure === hurry.signal.reason) continue;
        if (!(failure instanceof NetworkError) && !(failure instanceof RelayError && mayPass(failure))) {
          this.#failure = failure;
          return;
        }
        pause = backoff.next();
        if (failure instanceof RelayError && failure.retryAfter) pause = politely(failure.retryAfter);
        cause = failure;
      }
      this.#tell(cause ? { state: 'waiting', milliseconds: pause, cause } : { state: 'waiting', milliseconds: pause });
      this.#hurry = new AbortController();
      await wait(pause, AbortSignal.any([this.#stop.signal, this.#hurry.signal])).catch(() => {});
    }
  }

  /** One socket, from its ticket to its end. Resolves with the close code, 1006 when there is none. */
  async #connection(hurry: AbortSignal): Promise<number> {
    const stop = this.#stop.signal;
    const ticket = await this.#door.ticket(AbortSignal.any([stop, hurry]));
    if (stop.aborted || hurry.aborted) return 1006;
    return new Promise((resolve) => {
      let late: ReturnType<typeof setTimeout>;
      const end = (code: number) => {
        clearTimeout(late);
        stop.removeEventListener('abort', leave);
        hurry.removeEventListener('abort', drop);
        if (this.#socket === socket) this.#socket = undefined; // one that was dropped may close when another is open
        resolve(code);
      };
      const listener: SocketListener = {
        open: () => {
          clearTimeout(late);
          if (stop.aborted || hurry.aborted) return;
          this.#events = []; // what was not taken comes again on this socket
          this.#socket = socket;
          this.#acks.flush();
          this.#tell({ state: 'open' });
        },
        message: (data) => {
          if (this.#socket === socket) this.#receive(data, socket);
        },
        close: end,
      };
      const socket = this.#door.open(ticket, listener);
      const leave = () => {
        socket.close();
        late = setTimeout(() => end(1006), closing);
      };
      const drop = () => {
        socket.close();
        end(1006);
      };
      late = setTimeout(drop, opening);
      stop.addEventListener('abort', leave, { once: true });
      hurry.addEventListener('abort', drop, { once: true });
    });
  }

  #receive(data: Uint8Array, socket: Socket): void {
    let events: GatewayEvent[] = [];
    try {
      events = decodeFrame(data);
    } catch {
      socket.close(); // whatever sent this does not speak the contract now; perhaps it does next time
    }
    if (this.#stop.signal.aborted || events.length === 0) return;
    this.#events.push(...events);
    this.#changed.now();
    this.#changed = signal();
  }

  /** What to do about a close code: throws when the gateway has ended, else says how long to wait. */
  async #after(code: number, backoff: Backoff): Promise<number> {
    switch (code) {
      case 1001: // the relay goes away, and all its clients with it
        return 1000 + Math.random() * 4000;
      case 1008:
      case 1009:
        throw new GatewayEnded(code, 'refused');
      case 4409:
        throw new GatewayEnded(code, 'displaced');
      case 4401: // After a takeover of its own the session goes on, and a refresh tells.
        await this.#door.renew().catch((failure: unknown) => {
          if (failure instanceof RelayError && failure.status === 401) throw new GatewayEnded(code, 'revoked', { cause: failure });
          throw failure;
        });
        return backoff.next();
      default:
        return backoff.next();
    }
  }

  #tell(status: GatewayStatus): void {
    try {
      this.#status(status);
    } catch (failure) {
      this.#failure = failure; // the application's own: it ends the iteration
      this.#stop.abort();
    }
  }
}

/** 401 has been through a refresh already. */
const mayPass = ({ status }: RelayError): boolean => status === 408 || status === 429 || status >= 500;

function signal(): { promise: Promise<void>; now: () => void } {
  let now = () => {};
  const promise = new Promise<void>((resolve) => (now = resolve));
  return { promise, now };
}

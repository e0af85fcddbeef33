// The receiving half of the contract: one WebSocket, binary frames.
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { Queue, within } from './wait.js';
import { decodeFrame, encodeAck, type GatewayEvent } from './wire.js';

export class Gateway {
  readonly #events = new Queue<GatewayEvent>();
  readonly #socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer, isBinary) => {
      try {
        if (!isBinary) throw new Error('the relay sent a text frame');
        decodeFrame(data).forEach((event) => this.#events.push(event));
      } catch (failure) {
        this.#events.fail(failure instanceof Error ? failure : new Error(String(failure)));
        socket.close(1002);
      }
    });
    socket.on('error', (failure) => this.#events.fail(new Error(`the gateway failed: ${failure.message}`)));
    socket.on('close', (code, reason) => this.#events.fail(new Error(`the gateway was closed: ${code} ${reason.toString()}`.trimEnd())));
  }

  /** The listeners are in place before the socket opens, so no frame can be missed. ws answers the relay's pings. */
  static async open(url: string): Promise<Gateway> {
    const socket = new WebSocket(url, { perMessageDeflate: false });
    const gateway = new Gateway(socket);
    await within(once(socket, 'open'), 'the gateway to open').catch((failure: Error) => {
      socket.terminate();
      throw new Error(`could not open the gateway: ${failure.message}`);
    });
    return gateway;
  }

  next(what: string): Promise<GatewayEvent> {
    return this.#events.take(what);
  }

  acknowledge(ids: string[]): void {
    this.#socket.send(encodeAck(ids));
  }

  /** Without ceremony, for when something went wrong. */
  abort(): void {
    this.#socket.terminate();
  }

  /** Everything that was acknowledged goes out before the close frame does. */
  async close(): Promise<void> {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    const closed = once(this.#socket, 'close');
    this.#socket.close(1000);
    await within(closed, 'the gateway to close');
  }
}

// The WebSocket of a browser. Node.js gets socket.node.ts instead: package.json says so under imports.
import type { Bytes } from './bytes.js';

/** What a socket tells. After `close` it tells nothing more, and `close` comes exactly once, also when the socket never opened. */
export interface SocketListener {
  open(): void;
  message(data: Uint8Array): void;
  close(code: number): void;
}

export interface Socket {
  send(data: Bytes): void;
  close(): void;
}

/** Begins to open a WebSocket with binary frames; must not call the listener before it returns. */
export type OpenSocket = (url: string, listener: SocketListener) => Socket;

export const openSocket: OpenSocket = (url, listener) => {
  const socket = new WebSocket(url);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => listener.open();
  socket.onclose = ({ code }) => listener.close(code);
  socket.onmessage = ({ data }) => {
    // A text frame is none of the relay's. To close is all that a page can do about it.
    if (data instanceof ArrayBuffer) listener.message(new Uint8Array(data));
    else socket.close();
  };
  return { send: (data) => socket.send(data), close: () => socket.close() };
};

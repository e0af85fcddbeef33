// The WebSocket of Node.js: version 20 has none of its own, and that of later ones does not show the relay's pings.
import { WebSocket, type RawData } from 'ws';
import type { OpenSocket } from './socket.js';

/** The relay pings every 30 seconds. When two of them did not come, the connection is dead, though nobody said so. */
const silence = 75_000;

export const openSocket: OpenSocket = (url, listener) => {
  const socket = new WebSocket(url, { perMessageDeflate: false, maxPayload: 4 << 20, handshakeTimeout: 20_000 });
  socket.binaryType = 'arraybuffer';
  let timer: ReturnType<typeof setTimeout> | undefined;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => socket.terminate(), silence);
  };
  socket.on('open', () => {
    alive();
    listener.open();
  });
  socket.on('ping', alive);
  socket.on('message', (data: RawData, isBinary: boolean) => {
    if (isBinary && data instanceof ArrayBuffer) listener.message(new Uint8Array(data));
    else socket.terminate();
  });
  socket.on('error', () => {}); // 'close' follows
  socket.on('close', (code) => {
    clearTimeout(timer);
    listener.close(code);
  });
  return { send: (data) => socket.send(data), close: () => socket.close(1000) };
};

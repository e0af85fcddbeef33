// A wire between client and relay that can be cut.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export class Proxy {
  /** Connections made so far. */
  count = 0;
  readonly #pairs = new Set<[Socket, Socket]>();
  #server = createServer();
  #swallow = false;

  private constructor(readonly url: string) {}

  static async before(url: string): Promise<Proxy> {
    const { hostname, port } = new URL(url);
    const server = createServer((near) => {
      proxy.count++;
      const far = connect(Number(port), hostname);
      const pair: [Socket, Socket] = [near, far];
      proxy.#pairs.add(pair);
      const end = () => {
        near.destroy();
        far.destroy();
        proxy.#pairs.delete(pair);
      };
      near.on('error', end).on('close', end);
      far.on('error', end).on('close', end);
      near.on('data', (data) => proxy.#swallow || far.write(data));
      far.on('data', (data) => near.write(data));
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new Proxy(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    proxy.#server = server;
    return proxy;
  }

  /** Breaks all connections, without a goodbye. */
  cut(): void {
    for (const [near, far] of this.#pairs) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
    this.#swallow = false;
  }

  /** What clients say from now on does not arrive, until the next cut. */
  swallow(): void {
    this.#swallow = true;
  }

  close(): void {
    this.#server.close();
    this.cut();
  }
}

import type { Client } from 'openapi-fetch';
import { openSocket } from '#socket';
import { fromBase64, type Bytes } from './bytes.js';
import type { paths } from './gen/openapi.js';
import { Session, type CallOptions } from './session.js';
import type { OpenSocket } from './socket.js';
import type { Tokens } from './tokens.js';
import { apiClient } from './transport.js';

export interface Credentials {
  /** 3 to 50 of A-Z, a-z, 0-9 and _. */
  username: string;
  /** 12 to 256 characters. */
  password: string;
}

export interface RelayOptions {
  /**
   * Called with every new pair of tokens, and awaited before the pair is used: store it, for the older pair does not work any more. When it
   * fails, the call that needed the pair fails with its error, and the next one calls it again.
   */
  onTokens?: (tokens: Tokens) => unknown;
  /** Milliseconds that one try of a call may take; 20,000 when absent. */
  timeout?: number;
  /** Milliseconds that a call may take with all its tries and the waits between them; 60,000 when absent. 0: one try. */
  patience?: number;
  /** In place of the global one. */
  fetch?: typeof globalThis.fetch;
  /** In place of the platform's WebSocket. */
  openSocket?: OpenSocket;
}

/** A relay, for those who have no session with it yet. */
export class Relay {
  /** Without a slash at the end. */
  readonly url: string;
  /** All operations of the contract, typed, without a token. What fails is thrown. */
  readonly api: Client<paths>;
  /** @internal */
  readonly options: Required<RelayOptions>;

  constructor(url: string | URL, options: RelayOptions = {}) {
    const { protocol, origin, pathname } = new URL(url);
    if (protocol !== 'http:' && protocol !== 'https:') throw new TypeError('the URL of a relay begins with http:// or https://');
    this.url = (origin + pathname).replace(/\/+$/, '');
    const { fetch } = options;
    this.options = {
      onTokens: options.onTokens ?? (() => {}),
      timeout: options.timeout ?? 20_000,
      patience: options.patience ?? 60_000,
      // Looked up at each call, and called as what it is: browsers refuse fetch as a method of something else.
      fetch: fetch ? (input, init) => fetch(input, init) : (input, init) => globalThis.fetch(input, init),
      openSocket: options.openSocket ?? openSocket,
    };
    this.api = apiClient(this.url, this.options);
  }

  /** Makes a user. The session manages the account; `addDevice` gives one that sends and receives. */
  async register(credentials: Credentials): Promise<Session> {
    const { data } = await this.api.POST('/v1/users', { body: credentials });
    return this.begin(data!);
  }

  /** With a `deviceId` the session acts for that device, unless the device is gone: then `session.deviceId` is undefined. */
  async logIn(credentials: Credentials & { deviceId?: string }): Promise<Session> {
    const { data } = await this.api.POST('/v1/sessions', { body: credentials });
    return this.begin(data!);
  }

  /** The session of tokens that were stored. Asks the relay nothing. */
  resume(tokens: Tokens): Session {
    return new Session(this, tokens);
  }

  /**
   * The public key, 33 bytes, that sender certificates of this relay descend from. Pin it: put it into the application, or keep the first one and
   * refuse another. Whoever can exchange it can put a false sender on the first message of a conversation.
   */
  async trustRoot(options?: CallOptions): Promise<Bytes> {
    return fromBase64((await this.api.GET('/v1/certificates/root', { ...options })).data!.publicKey);
  }

  /** @internal */
  async begin(tokens: Tokens): Promise<Session> {
    await this.options.onTokens(tokens);
    return this.resume(tokens);
  }
}

import type { Client } from 'openapi-fetch';
import { sealedFetch } from '#sealed';
import { openSocket } from '#socket';
import { fromBase64, toBase64Url, type Bytes } from './bytes.js';
import { correct, type Correction, type KnownDevices } from './correction.js';
import { isDeliveryToken } from './delivery.js';
import type { DevicesChanged } from './errors.js';
import type { components, paths } from './gen/openapi.js';
import { bytes, failedOf, protobuf, Session, type CallOptions, type PreKeyBundle, type UserDevices } from './session.js';
import type { OpenSocket } from './socket.js';
import type { Tokens } from './tokens.js';
import { apiClient } from './transport.js';
import { encodeBatch, recipientsOf, type Batch, type FailedSubmission } from './wire.js';

export interface Credentials {
  /** 3 to 50 of A-Z, a-z, 0-9 and _. */
  username: string;
  /** 12 to 256 characters. */
  password: string;
}

/** What a relay takes: who may register, and its limits. */
export type Info = components['schemas']['Info'];

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
  /**
   * In place of the platform's way to make a sealed call: on Node.js a connection of its own for each; in a browser `fetch` without credentials and
   * referrer, whose connections may be those of calls by name. Beside a `fetch` of yours, sealed calls need this one too. It adds nothing that says
   * who calls, shares no connection with `fetch`, and follows no redirect.
   */
  sealedFetch?: typeof globalThis.fetch;
}

/** A relay, for those who have no session with it yet. */
export class Relay {
  /** Without a slash at the end. */
  readonly url: string;
  /** All operations of the contract, typed, without a token. What fails is thrown. */
  readonly api: Client<paths>;
  /** @internal */
  readonly options: Required<Omit<RelayOptions, 'sealedFetch'>>;
  readonly #unnamed: Client<paths> | undefined;
  /** The last refresh token of each device that had a session here, also when it has ended. */
  readonly #shown = new Map<string, string>();

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
    const apart = options.sealedFetch ?? (fetch ? undefined : sealedFetch);
    if (apart) this.#unnamed = apiClient(this.url, { ...this.options, fetch: (input, init) => apart(input, init) });
  }

  /** Who may register, and what fits. */
  async info(options?: CallOptions): Promise<Info> {
    return (await this.api.GET('/v1/info', { ...options })).data!;
  }

  /**
   * Makes a user. The session manages the account; `addDevice` gives one that sends and receives. An `invitation` is needed where `info` says so.
   */
  async register(credentials: Credentials & { invitation?: string }): Promise<Session> {
    const { data } = await this.api.POST('/v1/users', { body: credentials });
    return this.begin(data!);
  }

  /**
   * With a `deviceId` the session acts for that device, unless the device is gone: then `session.deviceId` is undefined. When this Relay has had a
   * session of the device, be it a resumed one that has ended, it shows the relay the last refresh token of that: then the log-in waits for no wrong
   * passwords but its own.
   */
  async logIn(credentials: Credentials & { deviceId?: string }): Promise<Session> {
    const refreshToken = this.#shown.get(credentials.deviceId ?? '');
    const { data } = await this.api.POST('/v1/sessions', { body: refreshToken === undefined ? credentials : { ...credentials, refreshToken } });
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

  /**
   * Sends a batch as `Session.send` does, and does not say who sends it: each submission and each recipient of a shared one shows the `deliveryToken`
   * that its user has given out. What remains to the relay is the address, the time, and that all of a batch comes from one sender: send to several
   * contacts in several batches if it should not see that.
   *
   * What a token does not open comes back as `refused`, whether the token or the device is gone. Nothing is ever sent by name in its place. After
   * {@link DevicesChanged} call `correctSealed`. An audience whose user no token of the batch opens is told as one without devices.
   */
  async sendSealed(batch: Batch, options?: CallOptions): Promise<FailedSubmission[]> {
    if (!recipientsOf(batch).every((r) => isDeliveryToken(r.deliveryToken))) {
      throw new TypeError('each submission of a sealed batch needs a delivery token of 32 bytes');
    }
    return failedOf(
      await this.#sealed.POST('/v1/messages/sealed', {
        params: { header: { 'Idempotency-Key': batch.key } },
        ...bytes(encodeBatch(batch), protobuf),
        parseAs: 'arrayBuffer',
        ...options,
      }),
    );
  }

  /** Bundles as `Session.bundles` gives them, without saying who asks. 401 when the token is not one of this user. */
  async sealedBundles(userId: string, deliveryToken: Uint8Array, options?: CallOptions & { deviceId?: string[] }): Promise<PreKeyBundle[]> {
    const { deviceId, ...others } = options ?? {};
    const params = { path: { userId }, query: deviceId === undefined ? {} : { deviceId } };
    return (await this.#sealed.GET('/v1/users/{userId}', { params, ...show(deliveryToken), ...others })).data!;
  }

  /** The devices of a user as `Session.devicesOf` gives them, without saying who asks. 401 when the token is not one of this user. */
  async sealedDevices(userId: string, deliveryToken: Uint8Array, options?: CallOptions): Promise<UserDevices> {
    return (await this.#sealed.GET('/v1/users/{userId}/devices', { params: { path: { userId } }, ...show(deliveryToken), ...options })).data!;
  }

  /**
   * What to do about a batch that `sendSealed` refused with {@link DevicesChanged}, as `Session.correct` finds it out, without saying who asks: with
   * the tokens of the batch. When the batch is for other devices of the sender's own user too, `known` has the sender's device. 401 when a token is
   * not one of its user any more.
   */
  async correctSealed(batch: Batch, changed: DevicesChanged, known: KnownDevices[], options?: CallOptions): Promise<Correction> {
    return correct(batch, changed.lists.map((l) => l.userId), known, ({ userId, devices }) => {
      const token = recipientsOf(batch).find((r) => devices.some((d) => d.deviceId === r.deviceId))?.deliveryToken;
      if (!token) throw new TypeError('no submission of the batch has a delivery token of a user whose devices have changed');
      return {
        list: () => this.sealedDevices(userId, token, options),
        bundles: (deviceId) => this.sealedBundles(userId, token, { ...options, deviceId }),
      };
    });
  }

  /** For calls that do not say who makes them. */
  get #sealed(): Client<paths> {
    if (!this.#unnamed) throw new TypeError('sealed calls need a sealedFetch beside a fetch of yours');
    return this.#unnamed;
  }

  /** @internal */
  remember({ deviceId, refreshToken }: Tokens): void {
    if (deviceId) this.#shown.set(deviceId, refreshToken);
  }

  /** @internal */
  async begin(tokens: Tokens): Promise<Session> {
    await this.options.onTokens(tokens);
    return this.resume(tokens);
  }
}

/** A delivery token, where an access token would be. */
const show = (token: Uint8Array) => ({ headers: { 'Delivery-Token': toBase64Url(token) } });

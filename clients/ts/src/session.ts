import type { Client } from 'openapi-fetch';
import { Gateway, type GatewayOptions } from './gateway.js';
import type { components, paths } from './gen/openapi.js';
import type { Relay } from './relay.js';
import { claims, TokenKeeper, type Tokens } from './tokens.js';
import { apiClient } from './transport.js';
import { decodeFailures, encodeSubmissions, type Batch, type FailedSubmission } from './wire.js';

type Schemas = components['schemas'];
export type Account = Schemas['Account'];
export type Device = Schemas['Device'];
export type KeyInventory = Schemas['KeyInventory'];
export type KeyUpload = Schemas['KeyUpload'];
export type NewDevice = Schemas['NewDevice'];
export type PreKeyBundle = Schemas['PreKeyBundle'];

export interface CallOptions {
  /** Ends the call; it rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** A refresh must be repeated within the relay's 10 seconds when its answer was lost, so it does not wait as long for one. */
const refreshTimeout = 8_000;

/**
 * What a pair of tokens allows. Access tokens are kept fresh. Calls that may be repeated without harm are, after a lost answer or when the relay
 * is busy, until `patience` is over. What fails is thrown, as `RelayError` or `NetworkError`.
 */
export class Session {
  readonly userId: string;
  /** Undefined when the session manages the account only. */
  readonly deviceId: string | undefined;
  /** 1 to 127; what libsignal calls the device id. */
  readonly deviceNumber: number | undefined;
  /** All operations of the contract, typed, with this session's token. What fails is thrown. */
  readonly api: Client<paths>;
  /** @internal */
  readonly keeper: TokenKeeper;

  /** @internal Sessions come from a Relay. */
  constructor(
    private readonly relay: Relay,
    tokens: Tokens,
  ) {
    ({ userId: this.userId, deviceId: this.deviceId } = claims(tokens.token));
    this.deviceNumber = tokens.deviceNumber;
    const { options, url } = relay;
    const refresher = apiClient(url, { ...options, timeout: Math.min(options.timeout, refreshTimeout) });
    const refresh = async (refreshToken: string) => (await refresher.POST('/v1/sessions/refresh', { body: { refreshToken } })).data!;
    this.keeper = new TokenKeeper(tokens, refresh, options.onTokens);
    this.api = apiClient(url, options, this.keeper);
  }

  /** The newest pair. `onTokens` has been given it, or is being. */
  get tokens(): Tokens {
    return this.keeper.pair;
  }

  /** Registers a device of the user with its public keys; the session that is returned acts for it, and this one goes on. */
  async addDevice(body: NewDevice, options?: CallOptions): Promise<Session> {
    return this.relay.begin((await this.api.POST('/v1/devices', { body, ...options })).data!);
  }

  async devices(options?: CallOptions): Promise<Device[]> {
    return (await this.api.GET('/v1/devices', { ...options })).data!.devices;
  }

  async renameDevice(deviceId: string, name: string, options?: CallOptions): Promise<void> {
    await this.api.PUT('/v1/devices/{deviceId}', { params: { path: { deviceId } }, body: { name }, ...options });
  }

  /** Its keys and mail go with it. */
  async removeDevice(deviceId: string, options?: CallOptions): Promise<void> {
    await this.api.DELETE('/v1/devices/{deviceId}', { params: { path: { deviceId } }, ...options });
  }

  /** Adds one-time keys, rotates signed ones, or, with another identity key, takes the device over. */
  async uploadKeys(body: KeyUpload, options?: CallOptions): Promise<void> {
    await this.api.POST('/v1/devices/keys', { body, ...options });
  }

  /** What the relay offers for this device. */
  async keys(options?: CallOptions): Promise<KeyInventory> {
    return (await this.api.GET('/v1/devices/keys', { ...options })).data!;
  }

  /** One bundle for each device of a user. Uses up a one-time key of each, and is limited: fetch them to start sessions only. */
  async bundles(userId: string, options?: CallOptions): Promise<PreKeyBundle[]> {
    return (await this.api.GET('/v1/users/{userId}', { params: { path: { userId } }, ...options })).data!;
  }

  /**
   * Sends at most 100 messages, 2 MiB together, and returns those that were not stored; the others are, durably. However often the batch is
   * repeated, within this call or by calling again after an error, it is stored once.
   */
  async send({ key, submissions }: Batch, options?: CallOptions): Promise<FailedSubmission[]> {
    const body = encodeSubmissions(submissions);
    const { data } = await this.api.POST('/v1/messages', {
      params: { header: { 'Idempotency-Key': key } },
      headers: { 'Content-Type': 'application/x-protobuf' },
      body: '', // The contract says binary, which the generated types call a string. The bytes come from here:
      bodySerializer: () => body,
      parseAs: 'arrayBuffer',
      ...options,
    });
    return data instanceof ArrayBuffer ? decodeFailures(new Uint8Array(data)) : [];
  }

  /** Opens the gateway, and opens it again whenever it breaks, until it is closed. Needs a session that acts for a device. */
  connect(options: GatewayOptions = {}): Gateway {
    const { openSocket } = this.relay.options;
    const base = this.relay.url.replace(/^http/, 'ws');
    const ticket = async (signal: AbortSignal) => (await this.api.POST('/v1/gateway/ticket', { signal })).data!.ticket;
    return new Gateway(
      {
        open: (key, listener) => openSocket(`${base}/v1/gateway?ticket=${encodeURIComponent(key)}`, listener),
        ticket,
        renew: () => this.keeper.renew(this.keeper.pair.token),
        keepFresh: () => this.keeper.token(),
      },
      options,
    );
  }

  /** Everything that the relay holds about the account. */
  async account(options?: CallOptions): Promise<Account> {
    return (await this.api.GET('/v1/account', { ...options })).data!;
  }

  /** All other sessions of the user end. */
  async changePassword(currentPassword: string, newPassword: string, options?: CallOptions): Promise<void> {
    await this.keeper.alone(async ({ token }) => {
      const headers = { Authorization: `Bearer ${token}` };
      return (await this.api.PUT('/v1/account/password', { body: { currentPassword, newPassword }, headers, ...options })).data!;
    });
  }

  /** The user's devices, keys and mail go with the account. */
  async deleteAccount(password: string, options?: CallOptions): Promise<void> {
    await this.api.DELETE('/v1/account', { body: { password }, ...options });
  }

  /** Ends this session, with its sockets. */
  async logOut(options?: CallOptions): Promise<void> {
    await this.keeper.alone(async ({ token, refreshToken }) => {
      await this.api.DELETE('/v1/sessions', { body: { refreshToken }, headers: { Authorization: `Bearer ${token}` }, ...options });
    });
  }
}

import type { Client } from 'openapi-fetch';
import { Gateway, type GatewayOptions } from './gateway.js';
import type { components, paths } from './gen/openapi.js';
import type { Relay } from './relay.js';
import { claims, TokenKeeper, type Tokens } from './tokens.js';
import { apiClient } from './transport.js';
import { unless } from './waiting.js';
import { fromBase64, toBase64, type Bytes } from './bytes.js';
import { CertificateKeeper, type SenderCertificate } from './certificate.js';
import { correct, type Correction, type KnownDevices } from './correction.js';
import { deliveryTokenHash, type ListedDeliveryToken } from './delivery.js';
import { DevicesChanged, NetworkError, RelayError } from './errors.js';
import { decodeAnswer, encodeBatch, recipientsOf, type Batch, type FailedSubmission } from './wire.js';

type Schemas = components['schemas'];
export type Account = Schemas['Account'];
export type Device = Schemas['Device'];
export type KeyInventory = Schemas['KeyInventory'];
export type KeyUpload = Schemas['KeyUpload'];
export type NewDevice = Schemas['NewDevice'];
export type PreKeyBundle = Schemas['PreKeyBundle'];
export type PushToken = Schemas['PushToken'];
export type UserDevices = Schemas['UserDevices'];

/** What the relay says of an upload. */
export interface Attachment {
  /** Names it for everybody who has a device: tell it in a message, with the key. */
  id: string;
  /** When the relay deletes it, 30 days after the upload. */
  expiresAt: Date;
}

export interface Backup {
  content: Uint8Array<ArrayBuffer>;
  /** As `storeBackup` wants it. */
  version: string;
}

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
  readonly #certificates = new CertificateKeeper(() => this.#certify());

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
    relay.remember(tokens);
    const store = (pair: Tokens) => {
      relay.remember(pair);
      return options.onTokens(pair);
    };
    this.keeper = new TokenKeeper(tokens, refresh, store);
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

  /** Adds one-time keys, rotates signed ones, or, with another identity key, takes the device over. May be repeated: no key is handed out twice. */
  async uploadKeys(body: KeyUpload, options?: CallOptions): Promise<void> {
    try {
      await this.api.POST('/v1/devices/keys', { body, ...options });
    } finally {
      if (body.identityKey !== undefined) this.#certificates.drop(); // also after an error: it may have been done
    }
  }

  /** What the relay offers for this device. */
  async keys(options?: CallOptions): Promise<KeyInventory> {
    return (await this.api.GET('/v1/devices/keys', { ...options })).data!;
  }

  /**
   * One bundle for each device of a user, or for those that `deviceId` names. Uses up a one-time key of each, and is limited: fetch them to start
   * sessions only. A user without devices is the same error as one who does not exist, `user_not_found`.
   */
  async bundles(userId: string, options?: CallOptions & { deviceId?: string[] }): Promise<PreKeyBundle[]> {
    const { deviceId, ...others } = options ?? {};
    const params = { path: { userId }, query: deviceId === undefined ? {} : { deviceId } };
    return (await this.api.GET('/v1/users/{userId}', { params, ...others })).data!;
  }

  /** The devices of a user, and the version of this list. Uses up no key. A user without devices is `user_not_found`. */
  async devicesOf(userId: string, options?: CallOptions): Promise<UserDevices> {
    return (await this.api.GET('/v1/users/{userId}/devices', { params: { path: { userId } }, ...options })).data!;
  }

  /**
   * A certificate of this device for libsignal to seal messages with. It is kept until 2 to 4 hours before it expires, never beyond this Session,
   * and dropped by `uploadKeys` with an identity key and by `logOut`; a takeover by `api` does not drop it.
   */
  senderCertificate({ signal }: CallOptions = {}): Promise<SenderCertificate> {
    return unless(signal, this.#certificates.get());
  }

  /**
   * Makes delivery tokens work until they expire, or for good without `expiresAt`; at most 250 at once and 1000 a user. The relay gets their hashes.
   * For one that is there it changes when it expires. To add and remove in one step, use `api`.
   */
  async addDeliveryTokens(tokens: Uint8Array[], { expiresAt, ...options }: CallOptions & { expiresAt?: Date } = {}): Promise<void> {
    const until = expiresAt ? { expiresAt: expiresAt.toISOString() } : {};
    const add = await Promise.all(tokens.map(async (token) => ({ hash: toBase64(await deliveryTokenHash(token)), ...until })));
    await this.api.POST('/v1/delivery-tokens', { body: { add }, ...options });
  }

  /**
   * Makes the tokens with these hashes stop working, everywhere within a second; at most 1000 at once. One that is not there is no error. Do it when
   * you block somebody who knows a token, and give another to the others.
   */
  async removeDeliveryTokens(hashes: Uint8Array[], options?: CallOptions): Promise<void> {
    await this.api.POST('/v1/delivery-tokens', { body: { remove: hashes.map(toBase64) }, ...options });
  }

  /** The delivery tokens of the user that work, the oldest first. Look through it after a takeover, which leaves them. */
  async deliveryTokens(options?: CallOptions): Promise<ListedDeliveryToken[]> {
    return (await this.api.GET('/v1/delivery-tokens', { ...options })).data!.tokens.map((t) => ({
      hash: fromBase64(t.hash),
      createdAt: new Date(t.createdAt),
      expiresAt: t.expiresAt === undefined ? undefined : new Date(t.expiresAt),
    }));
  }

  async #certify(): Promise<SenderCertificate> {
    const { data } = await this.api.GET('/v1/certificates/sender');
    return { certificate: fromBase64(data!.certificate), expiresAt: new Date(data!.expiresAt * 1000) };
  }

  /**
   * Sends at most 100 submissions and 1000 recipients of shared ones, 2 MiB together, and returns those that were not stored; the others are,
   * durably. However often the batch is repeated, within this call or by calling again after an error, it is stored once. Fails with
   * {@link DevicesChanged} when an audience has other devices.
   */
  async send(batch: Batch, options?: CallOptions): Promise<FailedSubmission[]> {
    if (recipientsOf(batch).some((r) => r.deliveryToken)) throw new TypeError('a batch with delivery tokens is for sendSealed: this would say who sends it');
    return failedOf(
      await this.api.POST('/v1/messages', {
        params: { header: { 'Idempotency-Key': batch.key } },
        ...bytes(encodeBatch(batch), protobuf),
        parseAs: 'arrayBuffer',
        ...options,
      }),
    );
  }

  /**
   * What to do about a batch that `send` refused with {@link DevicesChanged}. For each audience that has other devices it fetches the list of them,
   * and the bundles of those that `known` does not have with the same registration id and identity key; `known` are the devices with which you have
   * sessions, for each of these users. The device of this session is left out. A list is at least as new as the refusal; when devices change once
   * more, the next `send` says so. After an error call it again. Bundles are limited: 30 fetches in 10 minutes for a user.
   */
  correct(batch: Batch, changed: DevicesChanged, known: KnownDevices[], options?: CallOptions): Promise<Correction> {
    return correct(batch, changed.lists.map((l) => l.userId), known, ({ userId }) => ({
      own: this.deviceId,
      list: () => this.devicesOf(userId, options),
      bundles: (deviceId) => this.bundles(userId, { ...options, deviceId }),
    }));
  }

  /** Stores 1 byte to 50 MiB of ciphertext. Not repeated after a lost answer: there may be an attachment that nobody knows of, until it expires. */
  async uploadAttachment(content: Bytes, options?: CallOptions): Promise<Attachment> {
    const { data } = await this.api.POST('/v1/attachments', { ...bytes(content), ...options });
    return { id: data!.id, expiresAt: new Date(data!.expiresAt * 1000) };
  }

  async downloadAttachment(attachmentId: string, options?: CallOptions): Promise<Uint8Array<ArrayBuffer>> {
    const { data } = await this.api.GET('/v1/attachments/{attachmentId}', { params: { path: { attachmentId } }, parseAs: 'arrayBuffer', ...options });
    return new Uint8Array(data as ArrayBuffer);
  }

  /**
   * Stores the device's backup, 32 bytes to 2 MiB of ciphertext, and returns its version. `replaced` is the version that it replaces; undefined for
   * the first. One of several uploads at once wins: the others hear 409 or 412. Not repeated after a lost answer: ask for `backupVersion`.
   */
  async storeBackup(content: Bytes, replaced?: string, options?: CallOptions): Promise<string> {
    const header = replaced === undefined ? { 'If-None-Match': '*' } : { 'If-Match': replaced };
    const { response } = await this.api.POST('/v1/backup', { params: { header }, ...bytes(content), parseAs: 'arrayBuffer', ...options });
    return response.headers.get('ETag')!;
  }

  /** The device's backup; undefined when there is none. */
  async backup(options?: CallOptions): Promise<Backup | undefined> {
    const found = await there(this.api.GET('/v1/backup', { parseAs: 'arrayBuffer', ...options }));
    return found && { content: new Uint8Array(found.data as ArrayBuffer), version: found.response.headers.get('ETag')! };
  }

  /** The version of the device's backup; undefined when there is none. */
  async backupVersion(options?: CallOptions): Promise<string | undefined> {
    return (await there(this.api.HEAD('/v1/backup', { ...options })))?.response.headers.get('ETag') ?? undefined;
  }

  /** How the device is woken up while its gateway is closed: by FCM or APNs, or a Web Push subscription, whose `toJSON()` fits as it is. */
  async setPushToken(token: PushToken, options?: CallOptions): Promise<void> {
    await this.api.PUT('/v1/push-tokens', { body: token, ...options });
  }

  /** No more wake-ups. */
  async deletePushToken(options?: CallOptions): Promise<void> {
    await this.api.DELETE('/v1/push-tokens', { ...options });
  }

  /** The `applicationServerKey` for `PushManager.subscribe`. */
  async vapidKey(options?: CallOptions): Promise<string> {
    return (await this.api.GET('/v1/push-tokens/vapid', { ...options })).data!.publicKey;
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
    this.#certificates.drop();
  }
}

export const protobuf = 'application/x-protobuf';

/** The answer to a batch. */
export function failedOf({ data, response }: { data?: unknown; response: Response }): FailedSubmission[] {
  // An empty answer says that all is stored, so it must be one of the relay.
  if (!response.headers.get('Content-Type')?.startsWith(protobuf)) throw new NetworkError('somebody else answered for the relay');
  const { failed, lists } = decodeAnswer(data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array());
  if (lists.length > 0) throw new DevicesChanged(lists);
  return failed;
}

/** A binary body. The contract says binary, which the generated types call a string. */
export function bytes(content: Bytes, media = 'application/octet-stream') {
  return { headers: { 'Content-Type': media }, body: '', bodySerializer: () => content };
}

/** What a call gives, unless that is a 404. */
async function there<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (failure) {
    if (failure instanceof RelayError && failure.status === 404) return undefined;
    throw failure;
  }
}

// The HTTP half of the contract. Paths, bodies and answers are typed by what `npm run generate` made of openapi.yaml.
import createClient, { type Client } from 'openapi-fetch';
import type { components, paths } from '#openapi';
import { randomUUID } from 'node:crypto';
import { deadline } from './wait.js';
import { decodeFailures, encodeSubmissions, type Failure, type Submission } from './wire.js';

type Schemas = components['schemas'];
export type Auth = Schemas['AuthResponse'];
export type Bundle = Schemas['PreKeyBundle'];
export type Inventory = Schemas['KeyInventory'];
export type KeyUpload = Schemas['KeyUpload'];
export type NewDevice = Schemas['NewDevice'];

export interface Credentials {
  username: string;
  password: string;
}

/** A relay as seen by the holder of a token, or by nobody in particular. */
export class Relay {
  readonly #client: Client<paths>;

  constructor(
    readonly url: string,
    token?: string,
  ) {
    this.#client = createClient<paths>({
      baseUrl: url,
      headers: token ? { Authorization: `Bearer ${token}` } : {},
      fetch: (request) => fetch(request, { signal: AbortSignal.timeout(deadline) }),
    });
  }

  register = (body: Credentials): Promise<Auth> => this.#need('register', this.#client.POST('/v1/users', { body }));

  logIn = (body: Credentials): Promise<Auth> => this.#need('log in', this.#client.POST('/v1/sessions', { body }));

  addDevice = (body: NewDevice): Promise<Auth> => this.#need('add a device', this.#client.POST('/v1/devices', { body }));

  uploadKeys = (body: KeyUpload): Promise<void> => this.#answer('upload keys', this.#client.POST('/v1/devices/keys', { body }));

  inventory = (): Promise<Inventory> => this.#need('ask for the key inventory', this.#client.GET('/v1/devices/keys'));

  bundles = (userId: string): Promise<Bundle[]> =>
    this.#need('fetch pre-key bundles', this.#client.GET('/v1/users/{userId}', { params: { path: { userId } } }));

  deleteAccount = (password: string): Promise<void> =>
    this.#answer('delete the account', this.#client.DELETE('/v1/account', { body: { password } }));

  /** What the relay refused; empty when it holds everything durably. */
  async send(submissions: Submission[]): Promise<Failure[]> {
    const answer = this.#client.POST('/v1/messages', {
      params: { header: { 'Idempotency-Key': randomUUID() } },
      headers: { 'Content-Type': 'application/x-protobuf' },
      body: '', // The contract says binary, which the generated types call a string: the bytes come from here:
      bodySerializer: () => encodeSubmissions(submissions),
      parseAs: 'arrayBuffer',
    });
    return decodeFailures(new Uint8Array((await this.#answer('send', answer)) ?? []));
  }

  /** Where to open the gateway, once, within 30 seconds. */
  async gatewayUrl(): Promise<string> {
    const { ticket } = await this.#need('get a ticket for the gateway', this.#client.POST('/v1/gateway/ticket'));
    return `${this.url.replace(/^http/, 'ws').replace(/\/+$/, '')}/v1/gateway?ticket=${encodeURIComponent(ticket)}`;
  }

  async #need<T>(what: string, call: Promise<Answer<T>>): Promise<NonNullable<T>> {
    const data = await this.#answer(what, call);
    if (data === undefined || data === null) throw new Error(`could not ${what}: the relay's answer has no body`);
    return data;
  }

  async #answer<T>(what: string, call: Promise<Answer<T>>): Promise<T> {
    const { data, error, response } = await call.catch((failure: unknown) => {
      throw new Error(`could not ${what}: ${this.url} does not answer (${reasonOf(failure)})`);
    });
    if (response.ok) return data as T;
    const sentence = isError(error) ? `${error.error} (${error.code})` : String(error);
    throw new Error(`could not ${what}: ${response.status} ${sentence}, request ${response.headers.get('x-request-id')}`);
  }
}

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

const isError = (body: unknown): body is Schemas['Error'] => typeof body === 'object' && body !== null && 'code' in body;

function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  return failure.cause instanceof Error ? failure.cause.message : failure.message;
}

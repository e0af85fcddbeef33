// One HTTP call: with a token, within its time, and again if that is safe and may help.
import createClient, { type Client } from 'openapi-fetch';
import { NetworkError, RelayError } from './errors.js';
import type { paths } from './gen/openapi.js';
import { Backoff, politely, unless, wait } from './waiting.js';

export interface TransportOptions {
  fetch: typeof globalThis.fetch;
  /** Milliseconds that one try may take. */
  timeout: number;
  /** Milliseconds for a call with all its tries and waits. */
  patience: number;
}

/** Where a session's calls get their access token. */
export interface Authority {
  token(): Promise<string>;
  /** Called once for a call that was answered 401 with this token. */
  renew(stale: string): Promise<void>;
}

/**
 * Calls whose repetition does no harm when it is not known whether the first try worked. Bundles are not among them: each fetch uses up
 * one-time keys.
 */
const repeatable =
  /^(GET (?!\/v1\/users\/[^/]*$)|HEAD |PUT \/v1\/(devices\/|push-tokens$)|DELETE \/v1\/push-tokens$|POST \/v1\/(messages(\/sealed)?|delivery-tokens|devices\/keys|gateway\/ticket|sessions|sessions\/refresh)$)/;

/** Bytes a millisecond (32 KiB/s): one try may take longer by what its body needs at this speed, which is the relay's own measure. */
const slowest = 32;

/** Answers that a second try may change. 429 is not among them: it says that nothing was done, so any call is repeated after it. */
const passing = [408, 500, 502, 503, 504];

/** A typed client whose failures are thrown, as RelayError or NetworkError. */
export function apiClient(url: string, options: TransportOptions, authority?: Authority): Client<paths> {
  return createClient<paths>({ baseUrl: url, fetch: (request) => call(url, request, options, authority) });
}

async function call(url: string, request: Request, options: TransportOptions, authority?: Authority): Promise<Response> {
  const { signal } = request;
  const headers = new Headers(request.headers);
  // Read once, so that every try sends the same bytes: an idempotency key stands for them.
  const body = request.body === null ? null : await request.arrayBuffer();
  const ours = authority !== undefined && !headers.has('Authorization');
  const repeats = repeatable.test(`${request.method} ${request.url.slice(url.length)}`);
  const backoff = new Backoff();
  const end = Date.now() + options.patience;
  let renewed = false;
  let broken = 0; // answers 500
  for (;;) {
    const token = ours ? await unless(signal, authority.token()) : undefined;
    if (token) headers.set('Authorization', `Bearer ${token}`);
    const answer = await once(request, headers, body, options);
    if (answer instanceof Response) return answer;
    if (token && !renewed && answer instanceof RelayError && answer.status === 401 && answer.code !== 'wrong_credentials') {
      renewed = true;
      await unless(signal, authority!.renew(token));
      continue;
    }
    if (answer instanceof RelayError && answer.status === 500 && ++broken === 3) throw answer;
    const pause = again(answer, repeats, backoff);
    if (pause === undefined || Date.now() + pause >= end) throw answer;
    await wait(pause, signal);
  }
}

/** One try. What may be worth another is returned; what ends the call, its signal, is thrown. */
async function once(
  request: Request,
  headers: Headers,
  body: ArrayBuffer | null,
  { fetch, timeout }: TransportOptions,
): Promise<Response | RelayError | NetworkError> {
  request.signal.throwIfAborted();
  const late = new AbortController();
  const allow = (bytes: number) =>
    setTimeout(() => late.abort(new DOMException('the relay took too long', 'TimeoutError')), timeout + bytes / slowest);
  let timer = allow(body?.byteLength ?? 0);
  try {
    const response = await fetch(request.url, {
      method: request.method,
      headers,
      body,
      signal: AbortSignal.any([request.signal, late.signal]),
      cache: 'no-store',
      credentials: 'omit',
    });
    clearTimeout(timer);
    timer = allow(Number(response.headers.get('Content-Length') ?? 0));
    if (response.status >= 300 && response.status !== 304) return await RelayError.from(response);
    if (response.headers.get('Content-Type')?.startsWith('text/html')) return new NetworkError('somebody else answered for the relay');
    // To the end, here: a connection that breaks within the answer is a lost answer like any other.
    const content = await response.arrayBuffer();
    return new Response(content.byteLength > 0 ? content : null, response);
  } catch (failure) {
    request.signal.throwIfAborted();
    return new NetworkError(`no answer from the relay: ${reasonOf(failure)}`, { cause: failure });
  } finally {
    clearTimeout(timer);
  }
}

/** Milliseconds to wait before another try; undefined when there should be none. */
function again(answer: RelayError | NetworkError, repeats: boolean, backoff: Backoff): number | undefined {
  if (answer instanceof RelayError) {
    if (answer.status !== 429 && !(repeats && passing.includes(answer.status))) return undefined;
    if (answer.retryAfter !== undefined) return politely(answer.retryAfter);
  } else if (!repeats) {
    return undefined;
  }
  return backoff.next();
}

function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  return failure.cause instanceof Error && failure.cause.message ? failure.cause.message : failure.message;
}

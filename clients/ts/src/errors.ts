import type { DeviceList } from './wire.js';

/** The relay answered, and the answer is not the one that was asked for. */
export class RelayError extends Error {
  override readonly name = 'RelayError';

  constructor(
    /** The relay's sentence, for a person. */
    message: string,
    /** The HTTP status. */
    readonly status: number,
    /** For programs, stable. `unknown` when the answer is not the relay's own, but for example a proxy's. */
    readonly code: string,
    /** Seconds to wait before another try, if the relay said so. */
    readonly retryAfter: number | undefined,
    /** To quote when reporting a problem. */
    readonly requestId: string | undefined,
  ) {
    super(message);
  }

  static async from(response: Response): Promise<RelayError> {
    const text = await response.text().catch(() => '');
    const { error, code } = parse(text);
    return new RelayError(
      error ?? `the relay answered ${response.status}`,
      response.status,
      code ?? 'unknown',
      retryAfter(response),
      response.headers.get('x-request-id') ?? undefined,
    );
  }
}

/** There was no answer, so it is not known whether the relay did what it was asked to. `cause` is what the platform says. */
export class NetworkError extends Error {
  override readonly name = 'NetworkError';
}

/** Nothing of a batch was stored: audiences have other devices. What to do about it is what `Session.correct` finds out. */
export class DevicesChanged extends Error {
  override readonly name = 'DevicesChanged';

  constructor(
    /** The devices of these audiences now. */
    readonly lists: DeviceList[],
  ) {
    super('nothing was stored: an audience has other devices');
  }
}

/** The gateway closed, and opening it again would not help. */
export class GatewayEnded extends Error {
  override readonly name = 'GatewayEnded';

  constructor(
    /** The close code of the WebSocket. */
    readonly closeCode: number,
    /**
     * `displaced`: another program opened the gateway for this device (4409). `revoked`: the device was removed or the session ended (4401).
     * `refused`: the relay took something from this client for a mistake (1008, 1009).
     */
    readonly reason: 'displaced' | 'revoked' | 'refused',
    options?: ErrorOptions,
  ) {
    super(sentences[reason], options);
  }
}

const sentences = {
  displaced: 'the gateway was opened elsewhere for the same device',
  revoked: 'the device was removed or its session has ended',
  refused: 'the relay closed the gateway because of what it was sent',
};

function parse(text: string): { error?: string; code?: string } {
  try {
    const { error, code } = JSON.parse(text) as Record<string, unknown>;
    if (typeof error === 'string' && typeof code === 'string') return { error, code };
  } catch {
    // Not the relay's: see below.
  }
  return {};
}

function retryAfter(response: Response): number | undefined {
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}

// Bytes on the wire: the protobuf half of the contract, and this example's own wrapping of a ciphertext.
import { obscura } from '#proto';

export type Bytes = Uint8Array<ArrayBuffer>;

export interface Submission {
  submissionId: string;
  deviceId: string;
  message: Bytes;
}

export interface Failure {
  submissionId: string;
  reason: string;
}

export interface Envelope {
  id: string;
  senderId: string;
  senderDeviceId: string;
  senderDeviceNumber: number;
  sequence: number;
  acceptedAt: Date;
  message: Bytes;
}

/** What the relay says over the gateway, one envelope at a time. */
export type GatewayEvent =
  | { kind: 'envelope'; envelope: Envelope }
  | { kind: 'preKeyStatus'; oneTime: number; kyber: number; threshold: number }
  | { kind: 'gap'; from: number; to: number; reason: string }
  | { kind: 'drained'; sequence: number };

const { AckMessage, ErrorCode, Gap, SendMessageRequest, SendMessageResponse, WebSocketFrame } = obscura.v1;

export function encodeSubmissions(submissions: Submission[]): Bytes {
  const messages = submissions.map((s) => ({
    submissionId: uuidToBytes(s.submissionId),
    deviceId: uuidToBytes(s.deviceId),
    message: s.message,
  }));
  return own(SendMessageRequest.encode({ messages }).finish());
}

export function decodeFailures(body: Uint8Array): Failure[] {
  return (SendMessageResponse.decode(body).failedSubmissions ?? []).map((f) => ({
    submissionId: f.submissionId?.length === 16 ? uuidFromBytes(f.submissionId) : '',
    reason: `${ErrorCode[f.errorCode ?? 0] ?? f.errorCode}: ${f.errorMessage ?? ''}`,
  }));
}

export function encodeAck(ids: string[]): Bytes {
  return own(WebSocketFrame.encode({ ack: new AckMessage({ messageIds: ids.map(uuidToBytes) }) }).finish());
}

/** A frame of a kind that this client does not know yet carries no event: the contract may grow. */
export function decodeFrame(bytes: Uint8Array): GatewayEvent[] {
  const frame = WebSocketFrame.decode(bytes);
  if (frame.envelopeBatch) {
    return (frame.envelopeBatch.envelopes ?? []).map((e) => ({
      kind: 'envelope',
      envelope: {
        id: uuidFromBytes(e.id ?? none),
        senderId: uuidFromBytes(e.senderId ?? none),
        senderDeviceId: uuidFromBytes(e.senderDeviceId ?? none),
        senderDeviceNumber: e.senderDeviceNumber ?? 0,
        sequence: toNumber(e.sequence),
        acceptedAt: new Date(toNumber(e.timestamp)),
        message: own(e.message ?? none),
      },
    }));
  }
  if (frame.preKeyStatus) {
    const { oneTimePreKeyCount, kyberPreKeyCount, minThreshold } = frame.preKeyStatus;
    return [{ kind: 'preKeyStatus', oneTime: oneTimePreKeyCount ?? 0, kyber: kyberPreKeyCount ?? 0, threshold: minThreshold ?? 0 }];
  }
  if (frame.gap) {
    const { from, to, reason } = frame.gap;
    return [{ kind: 'gap', from: toNumber(from), to: toNumber(to), reason: Gap.Reason[reason ?? 0] ?? String(reason) }];
  }
  return frame.drained ? [{ kind: 'drained', sequence: toNumber(frame.drained.sequence) }] : [];
}

/** The relay carries bytes and nothing else, so the kind of ciphertext travels inside: one byte in front. */
export function wrap(type: number, ciphertext: Uint8Array): Bytes {
  return own(Buffer.concat([Uint8Array.of(type), ciphertext]));
}

export function unwrap(message: Bytes): { type: number; ciphertext: Bytes } {
  const type = message[0];
  if (type === undefined) throw new Error('an empty message: the byte that names its kind is missing');
  return { type, ciphertext: message.slice(1) };
}

const none = new Uint8Array();

/** protobufjs reads 64 bits into an object. Sequences and milliseconds stay far below 2^53. */
const toNumber = (value: number | { toNumber(): number } | null | undefined): number =>
  typeof value === 'object' ? (value?.toNumber() ?? 0) : (value ?? 0);

/** A copy: protobuf hands out windows into the frame. */
const own = (bytes: Uint8Array): Bytes => new Uint8Array(bytes);

export const uuidToBytes = (uuid: string): Bytes => new Uint8Array(Buffer.from(uuid.replaceAll('-', ''), 'hex'));

export function uuidFromBytes(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new Error(`an identifier of ${bytes.length} bytes instead of 16`);
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

export const toBase64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');
export const fromBase64 = (text: string): Bytes => new Uint8Array(Buffer.from(text, 'base64'));

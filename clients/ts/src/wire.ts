// The protobuf half of the contract, in the words of JSON: UUIDs are text, numbers are numbers.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { randomUUID, uuidFromBytes, uuidToBytes, type Bytes } from './bytes.js';
import {
  AckMessageSchema,
  ErrorCode,
  Gap_Reason,
  SendMessageRequestSchema,
  SendMessageResponseSchema,
  WebSocketFrameSchema,
  type Envelope as RawEnvelope,
} from './gen/obscura_pb.js';

/** One ciphertext for one device. */
export interface Submission {
  /** Names the submission in the answer. Submissions to several devices may share one. */
  submissionId: string;
  deviceId: string;
  /** 1 byte to 256 KiB. */
  message: Uint8Array;
  /** The device is not woken up for it. It is delivered all the same. */
  quiet?: boolean;
  /** For `sendSealed`, and only for that: one of the device's user. */
  deliveryToken?: Uint8Array;
}

/**
 * One body for many: each recipient gets an envelope with its own prefix and then `message`, which travels once. Of a multi-recipient message of
 * libsignal the prefix is 49 bytes; a message under a sender key needs none.
 */
export interface SharedSubmission {
  message: Uint8Array;
  /** At most 1000 in a batch. With prefix and message for each they come to at most 4 MiB. */
  recipients: SharedRecipient[];
  /** No recipient is woken up for it, as in {@link Submission}. */
  quiet?: boolean;
}

/** One device that gets a {@link SharedSubmission}. */
export interface SharedRecipient {
  /** Names the submission in the answer, as that of a {@link Submission}. */
  submissionId: string;
  deviceId: string;
  /** At most 256 bytes, none when absent; together with the message 1 byte to 256 KiB. */
  prefix?: Uint8Array;
  /** As in {@link Submission}. */
  deliveryToken?: Uint8Array;
}

/** Which of a user's devices a batch is meant for. */
export interface Audience {
  userId: string;
  /** Of the list of all devices that the sender knows: `devicesOf`, bundles of all devices, or `DevicesChanged`. Bundles of some do not raise it. */
  devicesVersion: number;
}

/** Submissions under one key. The same value may be sent any number of times, also after a restart, and is stored once. */
export interface Batch {
  /** A UUID, remembered by the relay for a day. */
  key: string;
  /** At most 100. */
  submissions: Submission[];
  /** These come after `submissions`, in this order. */
  shared?: SharedSubmission[];
  /** If one of these users has other devices, nothing is stored: see {@link DevicesChanged}. At most 100. */
  audiences?: Audience[];
}

/** The devices that a user has. */
export interface DeviceList {
  userId: string;
  /** 0 when there is no such user, or the user has no device. */
  devicesVersion: number;
  /** `number` is what libsignal calls the device id. `identityKey`, base64, is absent in `DevicesChanged`: the relay does not say it there. */
  devices: { deviceId: string; number: number; registrationId: number; identityKey?: string }[];
}

/** Chooses the key, and the ids of submissions that have none. */
export const newBatch = (...submissions: (Omit<Submission, 'submissionId'> & { submissionId?: string })[]): Batch => ({
  key: randomUUID(),
  submissions: submissions.map((s) => ({ submissionId: randomUUID(), ...s })),
});

/** One body for many, for the `shared` of a batch. Chooses the ids of recipients that have none. */
export const newShared = (message: Uint8Array, ...recipients: (Omit<SharedRecipient, 'submissionId'> & { submissionId?: string })[]): SharedSubmission => ({
  message,
  recipients: recipients.map((r) => ({ submissionId: randomUUID(), ...r })),
});

export type FailureReason =
  | 'invalidDevice'
  | 'malformedDeviceId'
  | 'malformedSubmissionId'
  | 'messageMissing'
  | 'messageTooLarge'
  | 'mailboxFull'
  | 'deviceListChanged'
  | 'refused'
  | 'unspecified';

/** A submission that was not stored. */
export interface FailedSubmission {
  /** Empty when the relay found it malformed. */
  submissionId: string;
  reason: FailureReason;
  /** The relay's sentence, for a person. */
  message: string;
}

/** What somebody sent to this device. */
export interface Envelope {
  /** The same whenever the envelope comes again. */
  id: string;
  /** Counts 1, 2, 3 and so on for this device; what is missing is in a gap. */
  sequence: number;
  /** A user. Empty when the relay was not told who writes, like `senderDeviceId`: the certificate inside the message says it. */
  senderId: string;
  senderDeviceId: string;
  /** What libsignal calls the device id, 1 to 127; 0 when the others are empty. */
  senderDeviceNumber: number;
  /** When the relay accepted it: the time for which a sender certificate inside is checked. */
  acceptedAt: Date;
  message: Bytes;
}

export type GapReason = 'expired' | 'cap' | 'takeover' | 'quarantined' | 'unspecified';

export interface EnvelopeEvent {
  kind: 'envelope';
  envelope: Envelope;
}

/** The envelopes from..to, both included, were dropped. Parts may come again: take gaps for sets of numbers. */
export interface GapEvent {
  kind: 'gap';
  from: number;
  to: number;
  reason: GapReason;
}

/** What was pending when the socket opened has been sent. After each reconnect there is another one. */
export interface DrainedEvent {
  kind: 'drained';
  /** The last sequence of the backlog; 0 when nothing was ever accepted for this device. */
  sequence: number;
}

/** How many one-time keys the relay has left for this device. Upload more when one is below the threshold. */
export interface PreKeyStatusEvent {
  kind: 'preKeyStatus';
  oneTime: number;
  kyber: number;
  threshold: number;
}

export type GatewayEvent = EnvelopeEvent | GapEvent | DrainedEvent | PreKeyStatusEvent;

export function encodeBatch({ submissions, shared = [], audiences = [] }: Omit<Batch, 'key'>): Bytes {
  const none = new Uint8Array();
  const to = (r: { submissionId: string; deviceId: string; deliveryToken?: Uint8Array }) => ({
    submissionId: uuidToBytes(r.submissionId),
    deviceId: uuidToBytes(r.deviceId),
    deliveryToken: r.deliveryToken ?? none,
  });
  return toBinary(SendMessageRequestSchema, create(SendMessageRequestSchema, {
    messages: submissions.map((s) => ({ ...to(s), message: s.message, quiet: s.quiet ?? false })),
    shared: shared.map(({ message, recipients, quiet = false }) => ({
      message,
      quiet,
      recipients: recipients.map((r) => ({ ...to(r), prefix: r.prefix ?? none })),
    })),
    audiences: audiences.map((a) => ({ userId: uuidToBytes(a.userId), devicesVersion: BigInt(a.devicesVersion) })),
  }));
}

/** Where a batch goes: its submissions, and the recipients of shared ones. */
export const recipientsOf = ({ submissions, shared = [] }: Batch): { deviceId: string; deliveryToken?: Uint8Array }[] => [
  ...submissions,
  ...shared.flatMap((s) => s.recipients),
];

export function decodeAnswer(body: Uint8Array): { failed: FailedSubmission[]; lists: DeviceList[] } {
  const { failedSubmissions, deviceLists } = fromBinary(SendMessageResponseSchema, body);
  return {
    failed: failedSubmissions.map((f) => ({
      submissionId: f.submissionId.length === 16 ? uuidFromBytes(f.submissionId) : '',
      reason: failureReasons[f.errorCode] ?? 'unspecified',
      message: f.errorMessage,
    })),
    lists: deviceLists.map((l) => ({
      userId: uuidFromBytes(l.userId),
      devicesVersion: Number(l.devicesVersion),
      devices: l.devices.map((d) => ({ deviceId: uuidFromBytes(d.deviceId), number: d.deviceNumber, registrationId: d.registrationId })),
    })),
  };
}

export function encodeAck(ids: Iterable<string>): Bytes {
  const ack = create(AckMessageSchema, { messageIds: Array.from(ids, uuidToBytes) });
  return toBinary(WebSocketFrameSchema, create(WebSocketFrameSchema, { payload: { case: 'ack', value: ack } }));
}

/** A frame that this client does not know carries no event: the contract may grow. */
export function decodeFrame(bytes: Uint8Array): GatewayEvent[] {
  const { payload } = fromBinary(WebSocketFrameSchema, bytes);
  switch (payload.case) {
    case 'envelopeBatch':
      return payload.value.envelopes.map((e) => ({ kind: 'envelope', envelope: envelope(e) }));
    case 'gap': {
      const { from, to, reason } = payload.value;
      return [{ kind: 'gap', from: Number(from), to: Number(to), reason: gapReasons[reason] ?? 'unspecified' }];
    }
    case 'drained':
      return [{ kind: 'drained', sequence: Number(payload.value.sequence) }];
    case 'preKeyStatus': {
      const { oneTimePreKeyCount, kyberPreKeyCount, minThreshold } = payload.value;
      return [{ kind: 'preKeyStatus', oneTime: oneTimePreKeyCount, kyber: kyberPreKeyCount, threshold: minThreshold }];
    }
    default:
      return [];
  }
}

/** Sequences and milliseconds stay far below 2^53. The message is a copy: protobuf gives a window into the frame. */
const envelope = (e: RawEnvelope): Envelope => ({
  id: uuidFromBytes(e.id),
  sequence: Number(e.sequence),
  senderId: sender(e.senderId),
  senderDeviceId: sender(e.senderDeviceId),
  senderDeviceNumber: e.senderDeviceNumber,
  acceptedAt: new Date(Number(e.timestamp)),
  message: new Uint8Array(e.message),
});

const sender = (id: Uint8Array): string => (id.length === 0 ? '' : uuidFromBytes(id));

const failureReasons: Record<ErrorCode, FailureReason> = {
  [ErrorCode.UNSPECIFIED]: 'unspecified',
  [ErrorCode.INVALID_DEVICE]: 'invalidDevice',
  [ErrorCode.MALFORMED_DEVICE_ID]: 'malformedDeviceId',
  [ErrorCode.MALFORMED_SUBMISSION_ID]: 'malformedSubmissionId',
  [ErrorCode.MESSAGE_MISSING]: 'messageMissing',
  [ErrorCode.MESSAGE_TOO_LARGE]: 'messageTooLarge',
  [ErrorCode.MAILBOX_FULL]: 'mailboxFull',
  [ErrorCode.DEVICE_LIST_CHANGED]: 'deviceListChanged',
  [ErrorCode.REFUSED]: 'refused',
};

const gapReasons: Record<Gap_Reason, GapReason> = {
  [Gap_Reason.UNSPECIFIED]: 'unspecified',
  [Gap_Reason.EXPIRED]: 'expired',
  [Gap_Reason.CAP]: 'cap',
  [Gap_Reason.TAKEOVER]: 'takeover',
  [Gap_Reason.QUARANTINED]: 'quarantined',
};

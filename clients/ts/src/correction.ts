// What to do about a batch that was for old devices.
import { RelayError } from './errors.js';
import type { PreKeyBundle, UserDevices } from './session.js';
import type { Audience, Batch, DeviceList, SharedSubmission } from './wire.js';

/** Devices of a user with which the sender has sessions. A `DeviceList` fits, and so does `{ userId, devices: bundles }`. */
export interface KnownDevices {
  userId: string;
  /** `identityKey` is base64, as in bundles. */
  devices: { deviceId: string; registrationId: number; identityKey?: string }[];
}

export interface Correction {
  /** What became of the devices of each audience that has others. */
  changes: DevicesChange[];
  /**
   * The batch, with its key, without the submissions that are to be encrypted again and with the versions of now. Add what was encrypted, and send
   * it.
   */
  rest: Batch;
}

/** What became of a user's devices: all that there are now, with their identity keys, and what differs. It is the known list the next time. */
export interface DevicesChange extends DeviceList {
  /** Of devices that were added or taken over, by device number. Drop the libsignal session that there may be, and make another. */
  bundles: PreKeyBundle[];
  /** Devices that were removed: drop the libsignal sessions with them. */
  gone: string[];
  /**
   * Ids of the submissions, shared ones too, that were for this user, each once and in the order of the batch: encrypt what they carry again, for all
   * `devices`. None when the devices turn out to be those that are known.
   */
  again: string[];
}

/** Where the devices of a user and their bundles come from. */
export interface DeviceSource {
  /** The sender's own device, which is left out. */
  own?: string | undefined;
  list(): Promise<UserDevices>;
  bundles(deviceId: string[]): Promise<PreKeyBundle[]>;
}

export async function correct(batch: Batch, userIds: string[], known: KnownDevices[], sourceOf: (known: KnownDevices) => DeviceSource): Promise<Correction> {
  let rest: Batch = { ...batch, submissions: [...batch.submissions] };
  const changes: DevicesChange[] = [];
  for (const userId of userIds) {
    const theirKnown = known.find((k) => k.userId === userId);
    if (!theirKnown) throw new TypeError('a user whose devices have changed is not among those that are known');
    const before = theirKnown.devices;
    const change = await devicesChange(userId, before, sourceOf(theirKnown));
    rest = { ...rest, audiences: audiencesNow(rest.audiences ?? [], change) };
    if (change.bundles.length + change.gone.length > 0) {
      const theirs = new Set([...before, ...change.devices].map((d) => d.deviceId));
      [rest, change.again] = split(rest, theirs);
    }
    changes.push(change);
  }
  return { changes, rest };
}

async function devicesChange(userId: string, before: KnownDevices['devices'], source: DeviceSource): Promise<DevicesChange> {
  const now = await source.list().catch(unless404({ devicesVersion: 0, devices: [] }));
  const devices = now.devices.map(({ deviceId, deviceNumber: number, registrationId, identityKey }) => ({ deviceId, number, registrationId, identityKey }));
  const isKnown = (d: (typeof devices)[number]) =>
    before.some((k) => k.deviceId === d.deviceId && k.registrationId === d.registrationId && (k.identityKey ?? d.identityKey) === d.identityKey);
  const fresh = devices.filter((d) => d.deviceId !== source.own && !isKnown(d)).map((d) => d.deviceId);
  const gone = before.map((k) => k.deviceId).filter((id) => !devices.some((d) => d.deviceId === id));
  // Those of a device that has gone meanwhile are missing; the next `send` says so.
  const bundles = fresh.length > 0 ? await source.bundles(fresh).catch(unless404([])) : [];
  return { userId, devicesVersion: now.devicesVersion, devices, bundles, gone, again: [] };
}

const unless404 =
  <T>(nothing: T) =>
  (failure: unknown): T => {
    if (failure instanceof RelayError && failure.status === 404) return nothing;
    throw failure;
  };

/** Gives a user the version of now, or leaves out one who has no device. */
const audiencesNow = (audiences: Audience[], { userId, devicesVersion }: Audience): Audience[] =>
  audiences.filter((a) => a.userId !== userId || devicesVersion > 0).map((a) => (a.userId === userId ? { userId, devicesVersion } : a));

/** Takes the submissions for some devices out of a batch. */
function split({ submissions, shared, ...others }: Batch, devices: Set<string>): [rest: Batch, ids: string[]] {
  const ids = new Set<string>();
  const stays = ({ deviceId, submissionId }: { deviceId: string; submissionId: string }) => {
    if (!devices.has(deviceId)) return true;
    ids.add(submissionId);
    return false;
  };
  const rest: Batch = { ...others, submissions: submissions.filter(stays) };
  const left = (s: SharedSubmission) => ({ ...s, recipients: s.recipients.filter(stays) });
  if (shared) rest.shared = shared.map(left).filter((s) => s.recipients.length > 0);
  return [rest, [...ids]];
}

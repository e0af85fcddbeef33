/**
 * A client of the Obscura relay. Begin with {@link Relay}: registering, logging in and resuming give a {@link Session}, and a
 * session sends, receives and manages keys. It encrypts nothing: what it sends is what you give it.
 *
 * @packageDocumentation
 */
export { fromBase64, toBase64, uuidFromBytes, uuidToBytes, type Bytes } from './bytes.js';
export type { SenderCertificate } from './certificate.js';
export type { Correction, DevicesChange, KnownDevices } from './correction.js';
export { deliveryTokenHash, newDeliveryToken, type ListedDeliveryToken } from './delivery.js';
export { DevicesChanged, GatewayEnded, NetworkError, RelayError } from './errors.js';
export { Gateway, type GatewayOptions, type GatewayStatus } from './gateway.js';
export { Relay, type Credentials, type Info, type RelayOptions } from './relay.js';
export { Session, type CallOptions } from './session.js';
export type { OpenSocket, Socket, SocketListener } from './socket.js';
export type { Tokens } from './tokens.js';
export { newBatch, newShared } from './wire.js';
export type {
  Audience,
  Batch,
  DeviceList,
  DrainedEvent,
  Envelope,
  EnvelopeEvent,
  FailedSubmission,
  FailureReason,
  GapEvent,
  GapReason,
  GatewayEvent,
  PreKeyStatusEvent,
  SharedRecipient,
  SharedSubmission,
  Submission,
} from './wire.js';
export type { components, operations, paths } from './gen/openapi.js';
export type { Account, Attachment, Backup, Device, KeyInventory, KeyUpload, NewDevice, PreKeyBundle, PushToken, UserDevices } from './session.js';

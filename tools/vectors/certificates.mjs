// Has libsignal make sender certificates for the Go tests to read, and an operator's server
// certificate with its key: internal/core/certificate/testdata/libsignal.json.
import * as signal from '@signalapp/libsignal-client';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { base64, flipBit, libsignalVersion, readCertificate, unbase64 } from './lib.mjs';

const certificates = [];
for (const id of [1, 2, 127, 128, 300, 2 ** 31, 2 ** 32 - 1]) {
  const root = signal.PrivateKey.generate();
  const key = signal.PrivateKey.generate();
  const server = signal.ServerCertificate.new(id, key.getPublicKey(), root);
  for (const device of [1, 64, 127]) {
    const expires = 3600000 * Math.floor(Math.random() * 1000000);
    const certificate = signal.SenderCertificate.new(randomUUID(), randomUUID(), device,
      signal.PrivateKey.generate().getPublicKey(), expires, server, key).serialize();
    const publicRoot = root.getPublicKey().serialize();
    certificates.push({ root: base64(publicRoot), certificate: base64(certificate),
      answer: readCertificate(certificate, publicRoot) });
  }
}

// Each bit of one certificate turned: libsignal's verdicts, one '0' or '1' a bit. Bits that end the
// message early or turn a field into another are among them.
const { root, certificate } = certificates[0];
const bytes = unbase64(certificate);
const flips = Array.from({ length: bytes.length * 8 }, (_, i) => {
  try {
    return readCertificate(flipBit(bytes, i), unbase64(root)).valid ? '1' : '0';
  } catch {
    return '0';
  }
}).join('');

const operatorRoot = signal.PrivateKey.generate();
const operatorKey = signal.PrivateKey.generate();
const operator = {
  root: base64(operatorRoot.getPublicKey().serialize()),
  certificate: base64(signal.ServerCertificate.new(7, operatorKey.getPublicKey(), operatorRoot).serialize()),
  key: base64(operatorKey.serialize()),
};

const file = new URL('../../internal/core/certificate/testdata/libsignal.json', import.meta.url);
writeFileSync(file,
  `${JSON.stringify({ libsignal: libsignalVersion, certificates, flips, operator }, null, 1)}\n`);
console.log(`${certificates.length} certificates, ${flips.split('1').length - 1} of ${flips.length} turned bits do not matter`);

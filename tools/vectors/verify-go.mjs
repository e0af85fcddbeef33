// Asks libsignal about the questions that the Go tests wrote to
// internal/prekey/testdata/go_signed.json and internal/core/certificate/testdata/go_made.json, and
// writes its answers beside them.
import { readFileSync, writeFileSync } from 'node:fs';
import { agrees, libsignalVersion, readCertificate, startsSession, unbase64, verifies } from './lib.mjs';

const file = new URL('../../internal/prekey/testdata/go_signed.json', import.meta.url);
const questions = JSON.parse(readFileSync(file, 'utf8'));

for (const c of questions.signatures) {
  const identity = unbase64(c.identity);
  c.verifies = verifies(identity, unbase64(c.message), unbase64(c.signature));
  c.agrees = agrees(identity);
}
for (const b of questions.bundles) {
  const signed = (k) => ({ publicKey: unbase64(k.publicKey), signature: unbase64(k.signature) });
  b.sessionStarts = await startsSession({
    identity: unbase64(b.identity),
    preKey: unbase64(b.preKey),
    signedPreKey: signed(b.signedPreKey),
    kyberPreKey: signed(b.kyberPreKey),
  });
}
questions.libsignal = libsignalVersion;
writeFileSync(file, `${JSON.stringify(questions, null, 1)}\n`);
console.log(`${questions.signatures.filter((c) => c.verifies).length} of ${questions.signatures.length} verify,`,
  `${questions.bundles.filter((b) => b.sessionStarts).length} of ${questions.bundles.length} start a session`);

const certificates = new URL('../../internal/core/certificate/testdata/go_made.json', import.meta.url);
const made = JSON.parse(readFileSync(certificates, 'utf8'));
for (const c of made.certificates) c.answer = readCertificate(unbase64(c.certificate), unbase64(c.root));
made.libsignal = libsignalVersion;
writeFileSync(certificates, `${JSON.stringify(made, null, 1)}\n`);
console.log(`${made.certificates.filter((c) => c.answer.valid).length} of ${made.certificates.length}`,
  'certificates are valid');

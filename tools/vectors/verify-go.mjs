// Asks libsignal about the questions that the Go tests wrote to
// internal/prekey/testdata/go_signed.json, and writes its answers beside them.
import { readFileSync, writeFileSync } from 'node:fs';
import { agrees, libsignalVersion, startsSession, unbase64, verifies } from './lib.mjs';

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

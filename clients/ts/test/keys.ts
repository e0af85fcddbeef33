// Public keys that the relay accepts. Their private halves are gone: nothing is encrypted here.
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { NewDevice } from '@obscura-relay/client';

export const root = fileURLToPath(new URL('../../..', import.meta.url)); // from build/

/** The keys of a new device, all of them different from every other's. */
export const newKeys = (): NewDevice => JSON.parse(execFileSync('go', ['run', './tools/try', 'keys'], { cwd: root, encoding: 'utf8' })) as NewDevice;

// The package as others get it: packed, installed into an empty project, compiled against and run. The program is the README's.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { newKeys, root } from './keys.js';
import { relayUrl } from './people.js';

const here = join(root, 'clients/ts');

/** What the README leaves to its reader. */
const mine = (): string => `
import type { KeyUpload, NewDevice, PreKeyBundle, Tokens } from '@obscura-relay/client';
const keys = ${JSON.stringify([newKeys(), newKeys()])} as NewDevice[];
export const url = ${JSON.stringify(relayUrl)};
export const storeTokens = async (name: string, tokens: Tokens): Promise<void> => console.log('store', name, tokens.deviceId ? 'device' : 'account');
export const keysOfNewDevice = async (): Promise<NewDevice> => keys.pop()!;
export const moreKeys = async (): Promise<KeyUpload> => ({});
export const encrypt = (bundle: PreKeyBundle, text: string): Uint8Array => new TextEncoder().encode(text + ' ' + bundle.deviceNumber);
export const decrypt = async (from: string, device: number, message: Uint8Array): Promise<void> =>
  console.log('read', from.length, device, new TextDecoder().decode(message));
export const markMissing = async (...gap: unknown[]): Promise<void> => console.log(gap);
`;

const printed = ['store bob account', 'store bob device', 'store alice account', 'store alice device', 'the gateway: open', 'read 36 1 hello, Bob 1', 'all that waited is here, up to 1'];

const strict = { strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: false, target: 'ES2022' };

test('the package can be installed, compiled against and run', (t) => {
  const project = mkdtempSync(join(tmpdir(), 'obscura-consumer-'));
  t.after(() => rmSync(project, { recursive: true, force: true }));
  const run = (command: string, ...args: string[]) => execFileSync(command, args, { cwd: project, encoding: 'utf8' });

  const [packed] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', project], { cwd: here, encoding: 'utf8' })) as [
    { filename: string; files: { path: string }[] },
  ];
  const others = packed.files.map((f) => f.path).filter((path) => !path.startsWith('dist/'));
  assert.deepEqual(others.sort(), ['LICENSE', 'README.md', 'package.json']);

  const { devDependencies } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> };
  const types = `@types/node@${devDependencies['@types/node']}`;
  writeFileSync(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  run('npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error', join(project, packed.filename), types);

  const example = readFileSync(join(here, 'README.md'), 'utf8').match(/```ts\n([^]*?)```/)?.[1];
  assert.ok(example, 'the README has no program');
  writeFileSync(join(project, 'example.ts'), example);
  writeFileSync(join(project, 'mine.ts'), mine());
  const tsconfig = (name: string, compilerOptions: object) =>
    writeFileSync(join(project, name), JSON.stringify({ compilerOptions: { ...strict, ...compilerOptions }, files: ['example.ts'] }));
  tsconfig('node.json', { module: 'NodeNext', lib: ['ES2023'], types: ['node'] });
  tsconfig('browser.json', { module: 'ESNext', moduleResolution: 'Bundler', lib: ['ES2023', 'DOM', 'DOM.Iterable'], types: [], noEmit: true });
  const tsc = join(here, 'node_modules/.bin/tsc');
  run(tsc, '--project', 'browser.json');
  run(tsc, '--project', 'node.json');
  assert.deepEqual(run('node', 'example.js').trim().split('\n'), printed);
});

test('what comes with the package is free of conditions and of native code', () => {
  const lock = JSON.parse(readFileSync(join(here, 'package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean; optional?: boolean; peer?: boolean }> };
  const shipped = Object.entries(lock.packages).filter(([path, p]) => path !== '' && !p.dev && !p.optional && !p.peer);
  assert.ok(shipped.length >= 3);
  for (const [path] of shipped) {
    const { license } = JSON.parse(readFileSync(join(here, path, 'package.json'), 'utf8')) as { license: string };
    assert.match(license, /^(MIT|\(Apache-2\.0 AND BSD-3-Clause\))$/, path);
    const native = readdirSync(join(here, path), { recursive: true, encoding: 'utf8' }).filter((file) => /\.node$|binding\.gyp$/.test(file));
    assert.deepEqual(native, [], path);
  }
});

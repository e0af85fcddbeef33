// The built page in a real browser, two tabs of it, through a relay of another origin.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { preview, type PreviewServer } from 'vite';

const folder = fileURLToPath(new URL('../..', import.meta.url)); // from build/test/
const need = (name: string): string => process.env[name] ?? assert.fail(`${name} is not set: run \`make test-web\` in the root of the repository`);
const relay = need('RELAY_URL');
const origin = need('WEB_ORIGIN'); // the relay allows it
const screenshots = process.env['SCREENSHOTS'];

let browser: Browser;
let context: BrowserContext;
let server: PreviewServer;
const complaints: string[] = []; // whatever appears on the console, and requests to anywhere else
const carried: Buffer[] = []; // everything that pages sent to the relay

before(async () => {
  const { hostname, port } = new URL(origin);
  server = await preview({ root: folder, logLevel: 'error', preview: { host: hostname, port: Number(port), strictPort: true } });
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []; // Chromium's sandbox does not work for root
  browser = await chromium.launch({ executablePath: need('CHROMIUM'), args });
  context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  context.setDefaultTimeout(20_000);
  context.on('page', watch);
});

after(async () => {
  await browser?.close();
  await server?.close();
});

function watch(page: Page): void {
  page.on('console', (message) => complaints.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('request', (request) => {
    if (![origin, relay].includes(new URL(request.url()).origin)) complaints.push(`a request to ${request.url()}`);
    const body = request.postDataBuffer();
    if (body) carried.push(body);
  });
  page.on('websocket', (socket) => {
    if (!socket.url().startsWith(relay.replace(/^http/, 'ws'))) complaints.push(`a socket to ${socket.url()}`);
    const keep = ({ payload }: { payload: string | Buffer }) => carried.push(Buffer.from(payload));
    socket.on('framesent', keep);
    socket.on('framereceived', keep);
  });
}

async function tab(profile: string): Promise<Page> {
  const page = await context.newPage();
  await page.goto(`${origin}/?profile=${profile}&relay=${encodeURIComponent(relay)}`);
  return page;
}

async function register(page: Page, name: string): Promise<string> {
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(randomBytes(12).toString('hex'));
  await page.getByRole('button', { name: 'Create account' }).click();
  await page.locator('.status[data-status=online]').waitFor();
  return page.locator('.address').innerText();
}

const message = (page: Page, kind: 'mine' | 'theirs', text: string) => page.locator(`.log .${kind}`).filter({ hasText: text });

async function say(from: Page, text: string): Promise<void> {
  await from.getByLabel('Message', { exact: true }).fill(text);
  await from.getByRole('button', { name: 'Send' }).click();
  await from.locator('.log .mine[data-state=sent]').filter({ hasText: text }).waitFor();
}

/** What the page has stored, and changes to it behind its back. */
const storedTokens = (page: Page, profile: string, changes: object = {}) =>
  page.evaluate(
    ([name, changes]) =>
      new Promise<Record<string, unknown>>((resolve, reject) => {
        const request = indexedDB.open(name);
        request.onerror = () => reject(request.error);
        request.onsuccess = () => {
          const store = request.result.transaction('tokens', 'readwrite').objectStore('tokens');
          const tokens = store.get(0) as IDBRequest<Record<string, unknown>>;
          tokens.onsuccess = () => {
            store.put({ ...tokens.result, ...changes }, 0).onsuccess = () => resolve(tokens.result);
            request.result.close();
          };
        };
      }),
    [`obscura-web-chat:${profile}`, changes] as const,
  );

async function picture(page: Page, name: string): Promise<void> {
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`) });
}

test('two people chat', async (t) => {
  const suffix = randomBytes(3).toString('hex');
  const [aliceName, bobName] = [`Alice_${suffix}`, `Bob_${suffix}`];
  const alice = await tab('alice');
  let bob = await tab('bob');
  await picture(alice, 'welcome');
  await register(alice, aliceName);
  const address = await register(bob, bobName);

  await t.test('what is sent while the other tab is closed is there when it opens', async () => {
    await bob.close();
    await alice.getByLabel("Somebody's address").fill(address);
    await alice.getByRole('button', { name: 'Add' }).click();
    await say(alice, 'Hello Bob, your tab is closed.');
    await say(alice, 'The relay keeps this for you.');
    bob = await tab('bob');
    await bob.getByRole('button', { name: aliceName }).click();
    await message(bob, 'theirs', 'Hello Bob, your tab is closed.').waitFor();
    await message(bob, 'theirs', 'The relay keeps this for you.').waitFor();
  });

  await t.test('both ways, live', async () => {
    await say(bob, 'Here I am, and I see it all.');
    await message(alice, 'theirs', 'Here I am, and I see it all.').waitFor();
    await say(alice, 'Grüße ☕');
    await message(bob, 'theirs', 'Grüße ☕').waitFor();
    await say(bob, '<b>not markup</b>');
    await message(alice, 'theirs', '<b>not markup</b>').waitFor();
  });

  await t.test('a reload keeps the account, the conversation and the encryption', async () => {
    for (const page of [alice, bob]) {
      await page.reload();
      await page.locator('.status[data-status=online]').waitFor();
    }
    await alice.getByRole('button', { name: bobName }).click();
    await bob.getByRole('button', { name: aliceName }).click();
    assert.deepEqual(await alice.locator('.log li > span').allInnerTexts(), await bob.locator('.log li > span').allInnerTexts());
    await say(alice, 'Still me.');
    await message(bob, 'theirs', 'Still me.').waitFor();
    await say(bob, 'Still me, too.');
    await message(alice, 'theirs', 'Still me, too.').waitFor();
    assert.equal(await bob.locator('.log li').count(), 7);
  });

  await t.test('a renewed token is remembered', async () => {
    const before = await storedTokens(bob, 'bob', { expiresAt: 0 }); // so that the next start renews it
    await bob.reload();
    await bob.locator('.status[data-status=online]').waitFor();
    const { refreshToken, expiresAt } = await storedTokens(bob, 'bob');
    assert.notEqual(refreshToken, before.refreshToken);
    assert.ok(Number(expiresAt) > Date.now() / 1000);
    await bob.getByRole('button', { name: aliceName }).click();
  });

  await t.test('both see the same safety number', async () => {
    const numbers = [];
    for (const page of [alice, bob]) {
      await page.getByRole('button', { name: 'Safety number' }).click();
      numbers.push(await page.locator('.numbers code').innerText());
      await picture(page, 'safety-number');
      await page.getByRole('button', { name: 'Safety number' }).click();
    }
    assert.match(numbers[0] ?? '', /^(\d{5} ){11}\d{5}$/);
    assert.equal(numbers[0], numbers[1]);
  });

  await t.test('a profile is open in one tab at a time', async () => {
    const second = await tab('bob');
    await second.getByText('open in another tab').waitFor();
    await picture(second, 'elsewhere');
    await bob.close();
    await second.locator('.status[data-status=online]').waitFor();
    bob = second;
    await say(alice, 'Which tab are you?');
    await bob.getByLabel('1 unread').waitFor();
    await bob.getByRole('button', { name: aliceName }).click();
    await message(bob, 'theirs', 'Which tab are you?').waitFor();
  });

  await t.test('a file goes along, encrypted', async () => {
    const content = Buffer.from('A secret recipe. '.repeat(10_000));
    await alice.getByLabel('Attach a file').setInputFiles({ name: 'recipe.txt', mimeType: 'text/plain', buffer: content });
    await say(alice, 'Try this!');
    const saved = bob.waitForEvent('download');
    await bob.getByRole('button', { name: 'Save recipe.txt (170 kB)' }).click();
    assert.equal((await saved).suggestedFilename(), 'recipe.txt');
    assert.ok((await readFile(await (await saved).path())).equals(content));
    await picture(bob, 'file');
  });

  await t.test('it fits on a phone', async () => {
    await picture(bob, 'desktop');
    await bob.setViewportSize({ width: 390, height: 844 });
    assert.ok(await bob.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await picture(bob, 'phone');
    await bob.getByRole('button', { name: 'Back' }).click();
    await bob.getByRole('button', { name: aliceName }).waitFor();
    assert.ok(await bob.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await picture(bob, 'phone-list');
    await bob.emulateMedia({ colorScheme: 'dark' });
    await picture(bob, 'phone-dark');
  });

  await t.test('the relay carried no word of it', () => {
    const words = ['closed', 'keeps', 'Here I am', 'Grüße', 'markup', 'Still me', 'Which tab', 'recipe'];
    assert.ok(carried.some((bytes) => bytes.length > 150_000)); // the file
    assert.ok(carried.length > 20);
    for (const word of words) assert.ok(!carried.some((bytes) => bytes.includes(word)), word);
  });

  await t.test('nothing complained, and nothing went anywhere else', () => assert.deepEqual(complaints, []));
});

test('what is wrong is said in the page', async () => {
  const carol = await tab('carol');
  const own = await register(carol, `Carol_${randomBytes(3).toString('hex')}`);
  await carol.getByLabel("Somebody's address").fill(own);
  await carol.getByRole('button', { name: 'Add' }).click();
  await carol.getByText('your own address').waitFor();
  await carol.close();
});

test('a message whose answer was lost is sent again after a reload, and arrives once', async () => {
  const [dave, erin] = [await tab('dave'), await tab('erin')];
  await register(dave, `Dave_${randomBytes(3).toString('hex')}`);
  const address = await register(erin, `Erin_${randomBytes(3).toString('hex')}`);
  const messages = `${relay}/v1/messages`;
  let tries = 0;
  await dave.route(messages, async (route) => {
    tries += route.request().method() === 'POST' ? 1 : 0;
    await route.fetch(); // failed, but applied
    await route.abort();
  });
  await dave.getByLabel("Somebody's address").fill(address);
  await dave.getByRole('button', { name: 'Add' }).click();
  await dave.getByLabel('Message', { exact: true }).fill('only once');
  await dave.getByRole('button', { name: 'Send' }).click();
  await erin.locator('.contacts').getByText('only once').waitFor();
  await dave.locator('.log .mine[data-state=sending]').waitFor();
  assert.ok(tries > 0);

  await dave.unrouteAll({ behavior: 'wait' }); // a try may be under way
  await dave.reload();
  await dave.locator('.status[data-status=online]').waitFor();
  await dave.locator('.contacts button').click();
  await dave.locator('.log .mine[data-state=sent]').waitFor();
  await say(dave, 'and then this');
  await erin.locator('.contacts button').click();
  await message(erin, 'theirs', 'and then this').waitFor();
  assert.deepEqual(await erin.locator('.log li > span').allInnerTexts(), ['only once', 'and then this']);
});

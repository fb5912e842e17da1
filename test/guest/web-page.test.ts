/** `volt web` in Chromium, with real guests behind it: 4 vCPUs of the embedded kernel, and a console that echoes. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout } from 'bun:test';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { chromium, type Browser, type Page } from 'playwright-core';
import { kvmOpens } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { NamedVolts, type ConsoleTerminal } from './named-volt.ts';
import { asm, echoGuest, program } from './tiny-guest.ts';

setDefaultTimeout(120_000);

const CHROMIUM = Bun.which('chromium');
const canRun = kvmOpens && CHROMIUM !== null;
const inBrowser = testNeeding('/dev/kvm and chromium', !canRun);
/** VOLT_SCREENSHOTS=DIR keeps pictures of the page. */
const PICTURES = process.env['VOLT_SCREENSHOTS'];

let volts: NamedVolts;
let smp: ConsoleTerminal;
let web: ConsoleTerminal;
let browser: Browser;
let url: URL;

beforeAll(async () => {
  if (!canRun) return;
  volts = new NamedVolts();
  smp = volts.terminal(
    ...['run', '--timeline', '--name', 'smp', '--cpus', '4', '--memory', '64M', '--cmdline', 'loop'],
  );
  await volts.volt('create', volts.configOf('echo', echoGuest()));
  await volts.volt('start', 'echo');
  web = volts.terminal('web');
  await web.shows('token=');
  await web.shows('\n');
  url = new URL(web.output.trim());
  await smp.shows('heartbeat');
  browser = await chromium.launch({ executablePath: CHROMIUM!, args: ['--no-sandbox'] });
});

afterAll(async () => {
  await browser?.close();
  await volts?.[Symbol.asyncDispose]();
});

interface Opened extends AsyncDisposable {
  readonly page: Page;
  /** Requests to other origins, and what the page complained about. */
  readonly bad: string[];
}

async function openPage(guest: string, options: object = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const bad: string[] = [];
  page.on('request', (request) => {
    const to = new URL(request.url());
    if (to.protocol !== 'data:' && to.host !== url.host) bad.push(request.url());
  });
  page.on('console', (message) => {
    if (message.type() === 'error') bad.push(message.text());
  });
  page.on('pageerror', (error) => bad.push(error.message));
  await page.goto(url.href);
  await page.getByRole('button', { name: guest, exact: false }).first().click();
  return { page, bad, [Symbol.asyncDispose]: () => context.close() };
}

async function picture(page: Page, name: string): Promise<void> {
  if (PICTURES === undefined) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true });
}

const pixelsOf = (page: Page, vcpu: number) =>
  page
    .locator(`tr[data-vcpu="${vcpu}"] canvas`)
    .evaluate((canvas) => (canvas as unknown as { toDataURL(): string }).toDataURL());

describe('the page', () => {
  inBrowser('shows a lane for each vCPU, which moves, and exits per second', async () => {
    await using opened = await openPage('smp');
    const { page, bad } = opened;
    await page.locator('tr[data-vcpu="3"][data-state="running"]').waitFor();

    const before = await pixelsOf(page, 3);
    let after = before;
    for (let i = 0; i < 100 && after === before; i++) {
      await page.waitForTimeout(100);
      after = await pixelsOf(page, 3);
    }
    const lanes = await page.locator('tr[data-vcpu]').count();
    await page.locator('tr[data-vcpu="0"] .exits', { hasText: /[1-9]/ }).waitFor();
    await page.waitForTimeout(PICTURES === undefined ? 0 : 8000);
    await picture(page, 'live');

    expect(lanes).toBe(4);
    expect(after).not.toBe(before);
    expect(bad).toEqual([]);
  });

  inBrowser("shows each AP's way from INIT by SIPI to its first exit", async () => {
    await using opened = await openPage('smp');
    const { page, bad } = opened;
    await page.getByRole('tab', { name: 'Boot' }).click();
    await page.locator('svg [data-lane="3"]').waitFor();

    const steps = await Promise.all(
      [1, 2, 3].map((lane) =>
        page
          .locator(`svg [data-lane="${lane}"] rect`)
          .evaluateAll((bars) =>
            bars.map((bar) => (bar as unknown as { dataset: { step: string } }).dataset.step),
          ),
      ),
    );
    await picture(page, 'boot');

    expect(steps).toEqual(Array<string[]>(3).fill(['wait', 'init', 'sipi', 'online']));
    expect(bad).toEqual([]);
  });

  inBrowser('pauses and resumes by a click', async () => {
    await using opened = await openPage('smp');
    const { page, bad } = opened;

    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByRole('button', { name: 'Resume' }).waitFor();
    const paused = await volts.volt('ctl', 'smp', 'status');
    await page.locator('tr[data-vcpu="2"][data-state="paused"]').waitFor();
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByRole('button', { name: 'Pause' }).waitFor();
    const resumed = await volts.volt('ctl', 'smp', 'status');

    expect(paused.stdout).toContain('paused');
    expect(resumed.stdout).toContain('running');
    expect(bad).toEqual([]);
  });

  inBrowser('is a console: what is typed reaches the guest, whose answer is shown', async () => {
    await using opened = await openPage('echo');
    const { page, bad } = opened;
    await page.getByRole('tab', { name: 'Console' }).click();
    await page.locator('.xterm-rows', { hasText: 'ready' }).waitFor();

    await page.locator('.xterm-helper-textarea').focus();
    await page.keyboard.type('typed in a browser');
    await page.locator('.xterm-rows', { hasText: 'typed in a browser' }).waitFor();
    await picture(page, 'console');
    const { stdout } = await volts.volt('logs', 'echo');

    expect(stdout).toEndWith('typed in a browser');
    expect(bad).toEqual([]);
  });

  inBrowser('shows the topology and decoded tables, also by keys alone, dark and on a phone', async () => {
    await using opened = await openPage('smp', {
      colorScheme: 'dark',
      viewport: { width: 390, height: 844 },
    });
    const { page, bad } = opened;

    await page.getByRole('tab', { name: 'Live' }).focus();
    for (const _ of ['Console', 'Boot', 'Machine']) await page.keyboard.press('ArrowRight');
    await page.locator('.thread').nth(3).waitFor();
    await page.getByText('ACPI: ').click();
    const text = await page.getByRole('tabpanel').innerText();
    const width = await page.evaluate('document.documentElement.scrollWidth');
    await picture(page, 'machine-dark-phone');

    expect(await page.locator('.thread').count()).toBe(4);
    expect(text).toMatch(/APIC\t0x/);
    expect(width).toBeLessThanOrEqual(390);
    expect(bad).toEqual([]);
  });

  inBrowser('reports a hang above all views, and among the events', async () => {
    const kernel = volts
      .configOf('stuck', program(asm.print('stuck\n'), asm.halt()))
      .replace('.json', '.elf');
    volts.terminal(
      ...[
        'run',
        '--name',
        'stuck',
        '--kernel',
        kernel,
        '--cpus',
        '1',
        '--memory',
        '32M',
        '--hang-report',
        '5',
      ],
    );
    await using opened = await openPage('stuck');
    const { page, bad } = opened;

    await page.locator('.hang[role="alert"]', { hasText: 'vCPU 0: halted-for-good, RIP 0x10' }).waitFor();
    await page.getByRole('tab', { name: 'Events' }).click();
    const events = await page.getByRole('tabpanel').innerText();

    expect(events).toContain('No vCPU has made progress for 5 s.');
    expect(bad).toEqual([]);
  });

  inBrowser('stops a guest, when it is asked twice, and starts it again', async () => {
    await using opened = await openPage('echo');
    const { page } = opened;

    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByRole('button', { name: 'Stop it' }).click();
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('button', { name: 'Pause' }).waitFor();
    const [echo] = (await volts.list()).filter(({ name }) => name === 'echo');

    expect(echo).toMatchObject({ state: 'running' });
  });
});

describe('a request', () => {
  const status = async (path: string, headers: Record<string, string> = {}) =>
    (await fetch(new URL(path, url), { headers, redirect: 'manual' })).status;

  inBrowser.each([
    ['without a token', '/', {}],
    ['with a wrong token', '/?token=wrong', {}],
    ['for another host', 'RIGHT', { host: 'evil.example' }],
    ['from a page of another site', 'RIGHT', { origin: 'https://evil.example' }],
    ['to the socket with a wrong token', '/live?token=wrong', {}],
  ])('%s is refused with 403', async (_what, path, headers) => {
    expect(await status(path === 'RIGHT' ? url.href : path, headers as Record<string, string>)).toBe(403);
  });

  inBrowser('of a WebSocket of another site is refused', async () => {
    const live = new URL(`/live${url.search}`, url);
    live.protocol = 'ws:';
    const socket = new WebSocket(live, { headers: { origin: 'https://evil.example' } } as never);
    let isOver = false;
    let wasOpen = false;
    socket.onopen = () => (wasOpen = true);
    socket.onclose = () => (isOver = true);

    await waitUntil('the end of the connection', () => isOver);

    expect(wasOpen).toBe(false);
  });

  inBrowser('gets the page with the right token, and the page may load nothing', async () => {
    const response = await fetch(url);

    expect(response.status).toBe(200);
    expect(response.headers.get('content-security-policy')).toStartWith(
      "default-src 'none'; script-src 'sha256-",
    );
    expect(response.headers.get('referrer-policy')).toBe('no-referrer');
  });
});

describe('on an address that others reach', () => {
  const withOpenssl = testNeeding('openssl', Bun.which('openssl') === null);

  withOpenssl('the page needs TLS, and a password opens it', async () => {
    await using own = new NamedVolts();
    const [cert, key] = [own.folder.at('cert.pem'), own.folder.at('key.pem')];
    const password = await own.folder.write('password', 'correct horse battery\n');
    Bun.spawnSync(
      [
        'openssl',
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=volt',
        '-keyout',
        key,
        '-out',
        cert,
      ],
      { stderr: 'ignore' },
    );
    const refused = await own.volt('web', '--listen', '0.0.0.0:0');
    const server = own.terminal(
      ...['web', '--listen', '0.0.0.0:0', '--tls-cert', cert, '--tls-key', key, '--password-file', password],
    );
    await server.shows('token=');
    await server.shows('\n');
    const origin = new URL(server.output.trim()).origin.replace('0.0.0.0', '127.0.0.1');
    const open = (authorization?: string) =>
      fetch(origin, {
        redirect: 'manual',
        tls: { rejectUnauthorized: false },
        headers: authorization === undefined ? {} : { authorization },
      });

    const without = await open();
    const wrong = await open(`Basic ${btoa('volt:wrong')}`);
    const right = await open(`Basic ${btoa('volt:correct horse battery')}`);

    expect(refused.stderr).toContain('other hosts reach it; add --tls-cert, --tls-key and --password-file');
    expect([without.status, wrong.status, right.status]).toEqual([401, 401, 303]);
    expect(right.headers.get('location')).toMatch(/^\/\?token=[\w-]{32}$/);
  });
});

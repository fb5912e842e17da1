/** Logs, metrics and health of a guest that runs, as a monitor sees them. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { waitUntil } from './guest-run.ts';
import { asm, buildPvhElf } from './tiny-guest.ts';
import { blockRequest, DATA, SECTOR, virtioAsm, virtioImage } from './virtio-guest.ts';
import { BeatingVolt, kvmOpens } from './volt-child.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const docs = resolve(import.meta.dir, '../../docs');

/** `name{labels}` to value. Throws for a line that the format does not have. */
function parseMetrics(text: string): Map<string, number> {
  const lines = text.split('\n');
  expect(lines.slice(-2)).toEqual(['# EOF', '']);
  const samples = lines.slice(0, -2).filter((line) => !/^# (?:TYPE|UNIT|HELP) [a-z_]+ \S/.test(line));
  return new Map(
    samples.map((line) => {
      const match = /^([a-z_]+(?:\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+\})?) (\S+)$/.exec(line);
      if (!match) throw new Error(`no OpenMetrics: ${line}`);
      return [match[1]!, Number(match[2])];
    }),
  );
}

async function metricsAddress(volt: BeatingVolt): Promise<string> {
  const address = () => /metrics at (http\S+)/.exec(volt.stderr)?.[1];
  await waitUntil('the address of the metrics', () => address() !== undefined);
  return address()!;
}

const WITH_METRICS = ['--metrics', '127.0.0.1:0', '--log-level', 'info'];

describe('metrics', () => {
  needsKvm('tell what the guest is and what it does, and count on', async () => {
    await using volt = await new BeatingVolt([...WITH_METRICS, '--cpus', '2']).beating();
    const url = await metricsAddress(volt);

    const response = await fetch(url);
    const first = parseMetrics(await response.text());
    await volt.ctl('pause', '1');
    const paused = parseMetrics(await (await fetch(url)).text());

    expect(response.headers.get('content-type')).toBe(
      'application/openmetrics-text; version=1.0.0; charset=utf-8',
    );
    expect(first.get('volt_guest_state{state="running"}')).toBe(1);
    expect(first.get('volt_guest_vcpus')).toBe(2);
    expect(first.get('volt_guest_memory_bytes')).toBe(64 * 2 ** 20);
    expect(first.get('volt_vcpu_exits_total{vcpu="0",reason="io"}')).toBeGreaterThan(50);
    expect(first.get('volt_vcpu_cpu_seconds_total{vcpu="1",mode="user"}')).toBeGreaterThanOrEqual(0);
    expect(first.get('volt_start_seconds{phase="first guest instruction"}')).toBeGreaterThan(0);
    expect(first.get('process_resident_memory_bytes')).toBeGreaterThan(2 ** 20);
    expect([...first.values()].filter(Number.isNaN)).toEqual([]);
    expect(paused.get('volt_vcpu_paused{vcpu="1"}')).toBe(1);
    expect(paused.get('process_cpu_seconds_total')).toBeGreaterThan(first.get('process_cpu_seconds_total')!);
  });

  needsKvm('count what devices do, request by request, errors among them', async () => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(8 * SECTOR));
    const out = blockRequest(DATA, 1, 5, new Uint8Array(SECTOR));
    const into = blockRequest(DATA + out.bytes.length, 0, 3, 2 * SECTOR);
    const beyond = blockRequest(DATA + out.bytes.length + into.bytes.length, 0, 8, 0);
    const chains = [out.chain, into.chain, beyond.chain];
    const data = Buffer.concat([out.bytes, into.bytes, beyond.bytes]);
    const { start, offer, waitUsed } = virtioAsm;
    const code = [start(), offer(3), waitUsed(3), asm.print('heartbeat\n'), asm.spin()];
    const kernel = await folder.write('kernel', buildPvhElf(virtioImage(code, chains, data)));
    const flags = ['--kernel', kernel, '--disk', `path=${disk},id=data`, '--balloon'];
    await using volt = await new BeatingVolt([...WITH_METRICS, ...flags]).beating();

    const metrics = parseMetrics(await (await fetch(await metricsAddress(volt))).text());

    const of = (name: string, more = '') => metrics.get(`volt_device_${name}{device="data"${more}}`);
    expect(of('info', ',kind="block"')).toBe(1);
    expect(of('state', ',state="running"')).toBe(1);
    expect(of('state', ',state="failed"')).toBe(0);
    expect(of('failures_total')).toBe(0);
    expect(of('requests_total', ',queue="0"')).toBe(3);
    expect(of('errors_total', ',queue="0"')).toBe(1);
    expect(of('traffic_bytes_total', ',queue="0",direction="out"')).toBe(SECTOR);
    expect(of('traffic_bytes_total', ',queue="0",direction="in"')).toBe(2 * SECTOR);
    expect(of('kicks_total', ',queue="0"')).toBeLessThanOrEqual(1);
    expect(of('interrupts_total', ',queue="0"')).toBeGreaterThanOrEqual(1);
    expect(metrics.get('volt_balloon_actual_bytes')).toBe(0);
  });

  needsKvm('are all in the documentation, and the dashboard asks for nothing else', async () => {
    using folder = new TemporaryFolder();
    const disk = await folder.write('disk', new Uint8Array(4096));
    const devices = ['--disk', disk, '--rng', '--balloon'];
    await using volt = await new BeatingVolt([...WITH_METRICS, ...devices]).beating();
    const text = await (await fetch(await metricsAddress(volt))).text();
    const names = new Set([...parseMetrics(text).keys()].map((name) => name.replace(/\{.*/, '')));

    const documented = readFileSync(resolve(docs, 'metrics.md'), 'utf8');
    const [dashboard, fleet] = ['grafana.json', 'grafana-fleet.json'].map((name) =>
      readFileSync(resolve(docs, name), 'utf8'),
    );
    const asked = [...`${dashboard}${fleet}`.matchAll(/\b(?:volt|process)_[a-z_]+/g)].map(
      (match) => match[0],
    );

    expect([...names].filter((name) => !documented.includes(`\`${name}\``))).toEqual([]);
    expect(asked.length).toBeGreaterThan(8);
    expect(asked.filter((name) => !names.has(name))).toEqual([]);
    expect(JSON.parse(dashboard!)).toHaveProperty('panels');
    expect(JSON.parse(fleet!)).toHaveProperty('panels');
  });

  needsKvm('on a Unix socket are for its owner alone, and the socket goes with the guest', async () => {
    await using volt = new BeatingVolt([]);
    const path = volt.folder.at('metrics.sock');
    await using served = await new BeatingVolt(['--metrics', path]).beating();
    const response = await fetch('http://volt/metrics', { unix: path });
    const mode = statSync(path).mode & 0o777;

    await served.ctl('stop');
    await served.exited;

    expect(response.status).toBe(200);
    expect(mode).toBe(0o600);
    expect(existsSync(path)).toBe(false);
  });

  needsKvm('have the labels that were given', async () => {
    await using volt = await new BeatingVolt([
      ...WITH_METRICS,
      '--metrics-labels',
      'node=a,guest=web',
    ]).beating();

    const text = await (await fetch(await metricsAddress(volt))).text();

    expect(text).toContain('\nvolt_guest_state{node="a",guest="web",state="running"} 1\n');
  });

  needsKvm.each(['node', 'vcpu=1', '__a=b', 'a=1,a=2', 'a b=c'])(
    'with the labels %s are refused',
    async (labels) => {
      const { stderr, exitCode } = await runVolt(['--metrics', '127.0.0.1:0', '--metrics-labels', labels]);

      expect(stderr).toContain('Expected names and values such as node=a,guest=web');
      expect(exitCode).toBe(2);
    },
  );

  needsKvm('are at /metrics alone, and only to be read', async () => {
    await using volt = await new BeatingVolt(WITH_METRICS).beating();
    const url = await metricsAddress(volt);

    expect((await fetch(`${url}/x`)).status).toBe(404);
    expect((await fetch(url, { method: 'POST', body: 'x' })).status).toBe(405);
  });

  needsKvm.each([
    ['9100', 'Cannot use --metrics: "9100" (expected an address and port such as 127.0.0.1:9100'],
    ['127.0.0.1:99999', 'Cannot use --metrics: "127.0.0.1:99999" (expected'],
    ['192.0.2.1:9100', 'Cannot open --metrics at 192.0.2.1:9100: '],
    ['/nonexistent/m.sock', 'Cannot open control socket /nonexistent/m.sock: there is no directory'],
  ])('at %s are refused in one line', async (where, words) => {
    const { stdout, stderr, exitCode } = await runVolt(['--memory', '64M', '--metrics', where]);

    expect(stderr).toStartWith(`volt: ${words}`);
    expect(stderr.split('\n')).toHaveLength(2);
    expect(stdout).toBe('');
    expect([1, 2]).toContain(exitCode);
  });
});

describe('logs', () => {
  needsKvm('are one JSON object a line with --log-format json', async () => {
    await using volt = await new BeatingVolt(['--log-format', 'json', '--log-level', 'info']).beating();
    await volt.ctl('stop');
    await volt.exited;

    const entries = volt.stderr
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

    expect(entries.length).toBeGreaterThan(2);
    for (const entry of entries) expect(entry).toMatchObject({ level: 'info', pid: volt.pid });
    expect(entries.map(({ message }) => message)).toContain(`control socket at ${volt.socket}`);
  });

  test('are so for an error that ends the command', async () => {
    const { stderr } = await runVolt(['--kernel', '/nonexistent', '--log-format', 'json']);

    const { level, message } = JSON.parse(stderr) as Record<string, string>;
    expect(level).toBe('error');
    expect(message).toContain('/nonexistent');
  });

  needsKvm("begin with the journal's severity where systemd reads them", async () => {
    const asService = `export JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2); exec "$@"`;
    await using volt = await new BeatingVolt(['--log-level', 'info'], {}, [
      ...['sh', '-c', asService, 'sh'],
    ]).beating();

    expect(volt.stderr).toMatch(/^<6>volt: /);
    expect(volt.stderr.split('\n').filter((line) => line !== '' && !line.startsWith('<6>volt: '))).toEqual(
      [],
    );
  });

  needsKvm('do not where a service has given stderr another place', async () => {
    await using volt = await new BeatingVolt(['--log-level', 'info'], {
      JOURNAL_STREAM: '8:12345',
    }).beating();

    expect(volt.stderr).toMatch(/^volt: /);
  });
});

describe('volt health', () => {
  needsKvm('is 0 for a guest that runs, 1 for a paused one, 2 for one that has gone', async () => {
    await using volt = await new BeatingVolt().beating();
    const running = await runVolt(['health', volt.socket]);
    const byPid = await runVolt(['health', String(volt.pid), '--json']);
    await volt.ctl('pause');
    const paused = await runVolt(['health', volt.socket]);
    volt.kill('SIGKILL');
    await volt.exited;
    const gone = await runVolt(['health', volt.socket]);

    expect(running.stdout).toMatch(/^OK: guest \d+ running for [\d.]+s, 1 vCPUs\n$/);
    expect(JSON.parse(byPid.stdout)).toMatchObject({ health: 'ok' });
    expect(paused.stdout).toMatch(/^WARNING: guest \d+ paused/);
    expect(gone.stdout).toBe(`CRITICAL: ${volt.socket} does not answer\n`);
    expect([running, byPid, paused, gone].map(({ exitCode }) => exitCode)).toEqual([0, 0, 1, 2]);
  });

  needsKvm('is 2 for a guest that does not answer in time', async () => {
    await using volt = await new BeatingVolt().beating();
    volt.kill('SIGSTOP');

    const { stdout, exitCode } = await runVolt(['health', volt.socket, '--timeout', '1']);

    expect(stdout).toContain('does not answer');
    expect(exitCode).toBe(2);
  });
});

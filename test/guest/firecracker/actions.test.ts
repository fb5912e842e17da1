/** What clients do with a guest that runs: keys, files of drives, metrics, the end. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { readFileSync } from 'node:fs';
import { runVolt, TemporaryFolder } from '../../cli/volt-process.ts';
import { testNeeding } from '../../support/needs.ts';
import { waitUntil } from '../guest-run.ts';
import { asm, buildPvhElf, program } from '../tiny-guest.ts';
import { FirecrackerChild, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);

const [I8042_DATA, I8042_COMMAND] = [0x60, 0x64];
/** Waits until the output buffer is full, and prints the byte in it plus 0x20. */
const printKey = [
  ...asm.untilZero([...asm.in8(I8042_COMMAND), 0x24, 0x01, 0x34, 0x01]), // and al, 1; xor al, 1
  ...asm.in8(I8042_DATA),
  ...[0xba, 0xf8, 0x03, 0x00, 0x00, 0xee], // mov edx, 0x3f8; out dx, al
];

async function startGuest(kernel: Uint8Array, flags: readonly string[] = []): Promise<FirecrackerChild> {
  const volt = await FirecrackerChild.start(flags, { kernel });
  await volt.request('PUT', '/boot-source', { kernel_image_path: volt.kernel });
  await volt.request('PUT', '/drives/a', {
    ...{ drive_id: 'a', path_on_host: volt.folder.at('disk.img'), is_root_device: false },
  });
  const { status } = await volt.request('PUT', '/actions', { action_type: 'InstanceStart' });
  expect(status).toBe(204);
  return volt;
}

describe('a running microVM', () => {
  needsKvm('gets Ctrl, Alt and Delete from the keyboard controller', async () => {
    const untranslated = [...asm.out8(I8042_COMMAND, 0x60), ...asm.out8(I8042_DATA, 0x00)];
    const guest = program(
      untranslated,
      asm.print('ready\n'),
      printKey,
      printKey,
      printKey,
      printKey,
      asm.exit(0),
    );
    await using volt = await startGuest(buildPvhElf(guest), ['--log-path', '$D/log']);
    await waitUntil('the guest', () => volt.stdout.includes('ready\n'));

    await volt.request('PUT', '/actions', { action_type: 'SendCtrlAltDel' });

    expect(await volt.exited).toBe(0);
    expect(Buffer.from(volt.stdout.split('ready\n')[1]!, 'utf8').toString('latin1').charCodeAt(0)).toBe(0x14);
    expect(volt.stdout.split('ready\n')[1]!.charCodeAt(1)).toBe(0x11);
  });

  needsKvm('is told in the log what was set without effect', async () => {
    const kernel = buildPvhElf(program(asm.exit(0)));
    await using volt = await FirecrackerChild.start(['--log-path', '$D/log'], { kernel });
    await volt.request('PUT', '/boot-source', { kernel_image_path: volt.kernel });
    await volt.request('PUT', '/balloon', {
      ...{ amount_mib: 0, deflate_on_oom: true, free_page_hinting: true },
    });

    await volt.request('PUT', '/actions', { action_type: 'InstanceStart' });
    await volt.exited;

    expect(readFileSync(volt.folder.at('log'), 'utf8')).toContain('Balloon hinting has no effect');
  });

  needsKvm('ends with 0 when the guest resets itself', async () => {
    const guest = program(asm.print('x'), asm.out8(I8042_COMMAND, 0xfe), asm.halt());
    await using volt = await startGuest(buildPvhElf(guest));

    expect(await volt.exited).toBe(0);
    expect(volt.stdout).toContain('Vmm is stopping.');
    expect(volt.stdout).toContain('Firecracker exiting successfully. exit_code=0');
  });

  needsKvm('takes another file for a drive, and refuses one that does not exist', async () => {
    await using volt = await startGuest(buildPvhElf(program(asm.halt())));
    await volt.folder.write('other.img', new Uint8Array(4096));
    const patch = (path: string) =>
      volt.request('PATCH', '/drives/a', { drive_id: 'a', path_on_host: volt.folder.at(path) });

    const [other, missing] = [await patch('other.img'), await patch('none.img')];
    const limits = await volt.request('PATCH', '/drives/a', {
      drive_id: 'a',
      rate_limiter: { ops: { size: 5, refill_time: 100 } },
    });
    const { body } = await volt.request('GET', '/vm/config');

    expect([other.status, missing.status, limits.status]).toEqual([204, 400, 204]);
    expect(missing.body).toContain('No such file or directory (os error 2)');
    expect(body).toContain('other.img');
    expect(body).toContain('"ops":{"size":5,"one_time_burst":null,"refill_time":100}');
  });

  needsKvm('writes a line of metrics at its start and for each FlushMetrics', async () => {
    const flags = ['--metrics-path', '$D/metrics'];
    await using volt = await startGuest(buildPvhElf(program(asm.halt())), flags);

    await volt.request('PUT', '/actions', { action_type: 'FlushMetrics' });
    const lines = volt.metrics();

    expect(lines).toHaveLength(2);
    expect(lines[0]!['put_api_requests']).toMatchObject({ boot_source_count: 1, drive_count: 1 });
    expect(lines[1]!['put_api_requests']).toMatchObject({ actions_count: 1, boot_source_count: 0 });
    expect(Object.keys(lines[0]!)).toContain('block_a');
  });
});

needsKvm('a configuration file starts a guest without an API', async () => {
  await using volt = await FirecrackerChild.startFromFile(
    buildPvhElf(program(asm.print('hello'), asm.out8(I8042_COMMAND, 0xfe), asm.halt())),
  );

  expect(await volt.exited).toBe(0);
  expect(volt.stdout).toContain('hello');
  expect(volt.stdout).toContain('Successfully started microvm that was configured from one single json');
});

needsKvm.each([
  ['SIGHUP', 1, 156, 'sighup'],
  ['SIGXCPU', 24, 154, 'sigxcpu'],
] as const)('%s is logged and counted, and ends the microVM', async (signal, number, exitCode, counter) => {
  await using volt = await startGuest(buildPvhElf(program(asm.halt())), ['--metrics-path', '$D/metrics']);

  volt.child.kill('SIGPIPE');
  await waitUntil('SIGPIPE', () => volt.stdout.includes('Received signal 13, code 0.'));
  volt.child.kill(signal);

  expect(await volt.exited).toBe(exitCode);
  expect(volt.stdout).toContain(`Shutting down VM after intercepting signal ${number}, code 0.`);
  expect(volt.metrics().at(-1)!['signals']).toMatchObject({ sigpipe: 1, [counter]: 1 });
});

test('metadata that is longer than the limit ends the process with a message', async () => {
  using folder = new TemporaryFolder();
  const metadata = await folder.write('metadata.json', Buffer.from('{"a":"longer"}'));
  const words = ['firecracker', '--api-sock', folder.at('api.sock'), '--metadata', metadata];

  const { stdout, stderr, exitCode } = await runVolt([...words, '--mmds-size-limit', '5']);

  expect(exitCode).toBe(1);
  expect(stdout).toContain("Populating MMDS from file failed: The MMDS patch request doesn't fit.");
  expect(stderr).toBe('Error: RunWithApi(BuildMicroVmError(PopulateMmds(DataStoreLimitExceeded)))\n');
});

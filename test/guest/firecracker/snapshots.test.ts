/** Snapshots through Firecracker's API: two files that the client names, and processes that go on from them. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { copyFileSync, existsSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { testNeeding } from '../../support/needs.ts';
import { waitUntil } from '../guest-run.ts';
import { FirecrackerChild, isRoot, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const needsTaps = testNeeding('/dev/kvm and root', !kvmOpens || !isRoot);

const KERNEL = readFileSync(new URL('../../../kernels/smp/smp.elf', import.meta.url));
const MEMORY_MIB = 64;

interface GuestOptions {
  readonly track?: boolean;
  readonly taps?: readonly string[];
}

/** The embedded kernel with both of its CPUs busy; it counts heartbeats on its console. */
async function startGuest({ track = false, taps = [] }: GuestOptions = {}): Promise<FirecrackerChild> {
  const volt = await FirecrackerChild.start(['--metrics-path', '$D/metrics'], { kernel: KERNEL, taps });
  await volt.done('PUT', '/boot-source', { kernel_image_path: volt.kernel, boot_args: 'loop' });
  await volt.done('PUT', '/machine-config', {
    ...{ vcpu_count: 2, mem_size_mib: MEMORY_MIB, track_dirty_pages: track },
  });
  const drive = { drive_id: 'a', path_on_host: volt.folder.at('disk.img'), is_root_device: false };
  const limiter = { ops: { size: 2 ** 52, refill_time: 100 } };
  await volt.done('PUT', '/drives/a', { ...drive, rate_limiter: limiter });
  if (taps.length > 0)
    await volt.done('PUT', '/network-interfaces/eth0', { iface_id: 'eth0', host_dev_name: taps[0] });
  await volt.done('PUT', '/actions', { action_type: 'InstanceStart' });
  return volt;
}

const beats = ({ stdout }: FirecrackerChild) =>
  [...stdout.matchAll(/heartbeat (\d+): /g)].map((match) => Number(match[1]));

async function beating(volt: FirecrackerChild, count = 1): Promise<void> {
  const wanted = beats(volt).length + count;
  await waitUntil('a heartbeat', () => beats(volt).length >= wanted || volt.child.exitCode !== null);
  expect(volt.child.exitCode).toBeNull();
}

async function save(volt: FirecrackerChild, body: Record<string, unknown> = {}): Promise<void> {
  await volt.done('PATCH', '/vm', { state: 'Paused' });
  await volt.done('PUT', '/snapshot/create', {
    ...{ snapshot_path: volt.folder.at('state'), mem_file_path: volt.folder.at('memory'), ...body },
  });
}

function loadBody(from: FirecrackerChild, body: Record<string, unknown> = {}) {
  const backend = { backend_type: 'File', backend_path: from.folder.at('memory') };
  return { snapshot_path: from.folder.at('state'), mem_backend: backend, ...body };
}

describe('a microVM', () => {
  needsKvm('goes on in another process where it was saved, once it is resumed', async () => {
    await using first = await startGuest();
    await beating(first);
    await save(first);
    const last = beats(first).at(-1)!;
    const config = await first.request('GET', '/vm/config');
    await using second = await FirecrackerChild.start([]);

    await second.done('PUT', '/snapshot/load', loadBody(first));
    const { body: paused } = await second.request('GET', '/');
    const silent = second.stdout;
    await second.done('PATCH', '/vm', { state: 'Resumed' });
    await beating(second);

    expect(paused).toContain('"state":"Paused"');
    expect(silent).not.toContain('heartbeat');
    expect(beats(second)[0]).toBe(last + 1);
    const restored = JSON.parse((await second.request('GET', '/vm/config')).body) as object;
    expect(restored).toEqual({
      ...(JSON.parse(config.body) as object),
      'boot-source': { kernel_image_path: '', initrd_path: null, boot_args: null },
    });
  });

  needsKvm('is resumed by resume_vm, and goes on in the first process too', async () => {
    await using first = await startGuest();
    await beating(first);
    await save(first);
    await using second = await FirecrackerChild.start([]);

    await second.done('PUT', '/snapshot/load', loadBody(first, { resume_vm: true }));
    await first.done('PATCH', '/vm', { state: 'Resumed' });
    await Promise.all([beating(second), beating(first)]);

    expect(beats(first)).toEqual(beats(first).map((_, i) => i + 1));
    expect(first.metrics().length).toBe(1);
    expect(statSync(first.folder.at('memory')).size).toBe(MEMORY_MIB << 20);
  });

  needsKvm('is saved in changes, which are merged into the memory file that is there', async () => {
    await using first = await startGuest({ track: true });
    await beating(first);
    await save(first);
    await first.done('PATCH', '/vm', { state: 'Resumed' });
    await beating(first);
    copyFileSync(first.folder.at('memory'), first.folder.at('whole'));
    await save(first, { snapshot_type: 'Diff', mem_file_path: first.folder.at('part') });
    await save(first, { snapshot_type: 'Full', mem_file_path: first.folder.at('memory') });
    const last = beats(first).at(-1)!;
    await first.done('PATCH', '/vm', { state: 'Resumed' });
    await beating(first);
    await save(first, { snapshot_type: 'Diff', mem_file_path: first.folder.at('memory') });

    const part = statSync(first.folder.at('part'));
    const whole = statSync(first.folder.at('whole'));
    await using second = await FirecrackerChild.start([]);
    await second.done('PUT', '/snapshot/load', loadBody(first, { resume_vm: true }));
    await beating(second);

    expect(beats(second)[0]).toBeGreaterThan(last + 1);
    expect(part.size).toBe(whole.size);
    expect(part.blocks).toBeGreaterThan(0);
    expect(part.blocks).toBeLessThan(whole.blocks);
  });

  needsKvm('that was loaded and never resumed is saved as it is', async () => {
    await using first = await startGuest();
    await beating(first);
    await save(first);
    const last = beats(first).at(-1)!;
    await using second = await FirecrackerChild.start([]);
    await second.done('PUT', '/snapshot/load', loadBody(first, { track_dirty_pages: true }));

    await second.done('PUT', '/snapshot/create', {
      ...{ snapshot_path: second.folder.at('state'), mem_file_path: second.folder.at('memory') },
    });
    await using third = await FirecrackerChild.start([]);
    await third.done('PUT', '/snapshot/load', loadBody(second, { resume_vm: true }));
    await beating(third);

    expect(beats(third)[0]).toBe(last + 1);
  });

  needsKvm('gets its memory from a handler of page faults', async () => {
    await using first = await startGuest();
    await beating(first);
    await save(first);
    const last = beats(first).at(-1)!;
    const socket = first.folder.at('faults.sock');
    const example = new URL('../../../examples/memory-handler.ts', import.meta.url).pathname;
    const handler = Bun.spawn([process.execPath, example, socket, first.folder.at('memory')]);
    await waitUntil('the handler', () => existsSync(socket));
    await using second = await FirecrackerChild.start([]);

    const mem_backend = { backend_type: 'Uffd', backend_path: socket };
    await second.done('PUT', '/snapshot/load', loadBody(first, { mem_backend, resume_vm: true }));
    await beating(second);
    handler.kill();

    expect(beats(second)[0]).toBe(last + 1);
  });

  needsTaps('has another tap and another file for a drive, if its client says so', async () => {
    await using first = await startGuest({ taps: ['vtap0'] });
    await beating(first);
    await first.folder.write('other.img', new Uint8Array(1 << 20));
    const other = { drive_id: 'a', path_on_host: first.folder.at('other.img') };
    await first.done('PATCH', '/drives/a', other);
    await save(first);
    await using second = await FirecrackerChild.start([], { taps: ['vtap1'] });
    const network_overrides = [{ iface_id: 'eth0', host_dev_name: 'vtap1' }];

    await second.done('PUT', '/snapshot/load', loadBody(first, { network_overrides, resume_vm: true }));
    await beating(second);
    const { body } = await second.request('GET', '/vm/config');

    expect(body).toContain('"host_dev_name":"vtap1"');
    expect(body).toContain('other.img');
    expect(body).toContain('"ops":{"size":4503599627370496,"one_time_burst":null,"refill_time":100}');
  });
});

describe('a snapshot that cannot be loaded', () => {
  /** The message, and how the process ended. */
  async function load(body: (first: FirecrackerChild) => unknown): Promise<string> {
    await using first = await startGuest();
    await save(first);
    await using second = await FirecrackerChild.start([]);
    const answer = await second.request('PUT', '/snapshot/load', body(first));
    expect(answer.status).toBe(400);
    expect(await second.exited).toBe(1);
    expect(second.stderr).toContain('Error: RunWithApi(BuildMicroVmError(Restore))');
    return (JSON.parse(answer.body) as { fault_message: string }).fault_message;
  }
  const prefix = 'Load snapshot error: Failed to restore from snapshot: ';

  needsKvm('has no state file', async () => {
    expect(await load((first) => loadBody(first, { snapshot_path: '/none' }))).toBe(
      `${prefix}Failed to get snapshot state from file: Failed to open snapshot file: No such file or directory (os error 2)`,
    );
  });

  needsKvm('has a state file that was changed', async () => {
    const forge = (first: FirecrackerChild) => {
      const bytes = readFileSync(first.folder.at('state'));
      bytes[bytes.length - 3]! ^= 1;
      writeFileSync(first.folder.at('state'), bytes);
      return loadBody(first);
    };

    expect(await load(forge)).toContain('its checksum is wrong');
  });

  needsKvm('has a memory file of another length', async () => {
    const cut = (first: FirecrackerChild) => {
      truncateSync(first.folder.at('memory'), 4096);
      return loadBody(first);
    };

    expect(await load(cut)).toContain(`has 4096 bytes (expected ${MEMORY_MIB << 20})`);
  });

  needsKvm('names an interface that the microVM does not have', async () => {
    const network_overrides = [{ iface_id: 'eth7', host_dev_name: 'tap' }];

    expect(await load((first) => loadBody(first, { network_overrides }))).toBe(
      `${prefix}Failed to get snapshot state from file: Unknown Network Device.`,
    );
  });

  needsKvm('has no handler behind its socket', async () => {
    const mem_backend = { backend_type: 'Uffd', backend_path: '/none' };

    expect(await load((first) => loadBody(first, { mem_backend }))).toBe(
      `${prefix}Failed to load guest memory: Error creating guest memory from uffd: Failed to connect to UDS Unix stream: No such file or directory (os error 2)`,
    );
  });
});

needsKvm('--describe-snapshot prints the version that --snapshot-version prints', async () => {
  await using first = await startGuest();
  await save(first);

  const described = await FirecrackerChild.print('--describe-snapshot', first.folder.at('state'));

  expect(described).toStartWith('v11.0.0\n');
  expect(await FirecrackerChild.print('--snapshot-version')).toStartWith('v11.0.0\n');
});

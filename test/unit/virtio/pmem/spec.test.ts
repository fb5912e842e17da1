import { describe, expect, test } from 'bun:test';
import { PMEM } from '../../../../src/virtio/pmem/spec.ts';
import { parseConfig } from '../../../../src/config/config.ts';
import { voltErrorOf } from '../../support/errors.ts';

const kernel = { 'boot-source': { kernel_image_path: 'vmlinux', boot_args: 'quiet' } };
const parse = (...pmem: readonly object[]) => parseConfig({ ...kernel, pmem });

describe('pmem in the JSON of Firecracker', () => {
  test('has everything that Firecracker says of it', () => {
    const { config, unknownKeys } = parse({
      id: 'a',
      path_on_host: './file',
      root_device: true,
      read_only: true,
      rate_limiter: { ops: { size: 10, refill_time: 1000 } },
    });

    expect(config.devices).toEqual([
      {
        kind: 'pmem',
        id: 'a',
        path: './file',
        format: undefined,
        root: true,
        locked: true,
        readOnly: true,
        limits: { bandwidth: undefined, ops: { size: 10, burst: 0, refillMs: 1000 } },
      },
    ]);
    expect(unknownKeys).toEqual([]);
    expect(config.cmdline).toBe('quiet root=/dev/pmem0 ro');
  });

  test('may have its root anywhere among them', () => {
    const { config } = parse(
      { id: 'a', path_on_host: 'a' },
      { id: 'b', path_on_host: 'b', root_device: true },
    );

    expect(config.cmdline).toBe('quiet root=/dev/pmem1 rw');
  });

  test('and a drive cannot both be the root device', () => {
    const sections = {
      ...kernel,
      pmem: [{ id: 'a', path_on_host: 'a', root_device: true }],
      drives: [{ drive_id: 'b', path_on_host: 'b', is_root_device: true }],
    };

    expect(voltErrorOf(() => parseConfig(sections)).message).toContain('two of them are root devices');
  });
});

describe('--pmem', () => {
  test('takes a file with all its settings, and numbers those without an id', () => {
    const items = ['path=a,readonly,id=x,bw=1M', 'path=b'].map((text, i) => PMEM.flag.parse(text, i));

    expect(items).toEqual([
      {
        id: 'x',
        path_on_host: 'a',
        read_only: true,
        rate_limiter: { bandwidth: { size: 2 ** 20, refill_time: 1000 } },
      },
      { id: 'pmem1', path_on_host: 'b' },
    ]);
  });

  test.each([
    ['readonly', 'it names no file (expected path=FILE)'],
    ['path=a,direct', 'unknown key direct (expected path, root, readonly, id, format, bw, iops)'],
  ])('refuses %s', (text, problem) => {
    expect(voltErrorOf(() => PMEM.flag.parse(text, 0)).message).toBe(`Cannot use --pmem ${text}: ${problem}`);
  });
});

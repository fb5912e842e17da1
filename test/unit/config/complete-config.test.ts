/** The whole configuration of a guest, as `volt config` prints it. */
import { describe, expect, test } from 'bun:test';
import { completeConfig } from '../../../src/config/complete-config.ts';
import { parseConfig } from '../../../src/config/config.ts';

const INPUTS = [
  {},
  { 'boot-source': { kernel_image_path: '/k', boot_args: null } },
  {
    'boot-source': { kernel_image_path: '/k' },
    'machine-config': { vcpu_count: 4, mem_size_mib: 256, huge_pages: '2M' },
    drives: [
      { drive_id: 'a', path_on_host: '/a' },
      { drive_id: 'b', path_on_host: '/b', is_root_device: true, queues: 2 },
    ],
    vsock: { uds_path: '/v' },
    volt: { max_cpus: 8, cores: 4, console: 'file=/c', cpu_affinity: '0=0-1', hang_report_s: 'off' },
  },
  {
    volt: {
      numa: [
        { cpus: '0', mem_size_mib: 64 },
        { cpus: '1', mem_size_mib: 64 },
      ],
    },
  },
];

describe('a completed configuration', () => {
  test.each(INPUTS)('means what it was made from: %j', (input) => {
    const { config } = parseConfig(input);

    const whole = completeConfig(config);
    const again = parseConfig(whole);

    expect({ ...again.config, input: undefined }).toEqual({ ...config, input: undefined as never });
    expect(again.unknownKeys).toEqual([]);
  });

  test('has defaults, and no key that is null', () => {
    const whole = completeConfig(parseConfig(INPUTS[1]).config);

    expect(whole).toMatchObject({
      'boot-source': { kernel_image_path: '/k', boot_args: 'console=ttyS0 reboot=k panic=-1' },
      'machine-config': { vcpu_count: 2, mem_size_mib: 512, smt: false },
      volt: { console: 'stdio', acpi: true, reboot: 'restart' },
    });
  });
});

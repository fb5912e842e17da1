import { describe, expect, test } from 'bun:test';
import { parseConfig } from '../../../src/config/config.ts';
import { addKernelWords, contradictingWords, kernelWords } from '../../../src/config/kernel-words.ts';

const MACHINE = { acpi: true, mpTables: true, cpus: 2, maxCpus: 2, numa: false };

describe('words that Volt adds', () => {
  test.each([
    ['', 'root=/dev/vda', 'root=/dev/vda'],
    ['quiet', 'root=/dev/vda', 'quiet root=/dev/vda'],
    ['quiet -- single', 'root=/dev/vda', 'quiet root=/dev/vda -- single'],
    ['-- single', 'root=/dev/vda', 'root=/dev/vda -- single'],
    ['quiet --', 'root=/dev/vda', 'quiet root=/dev/vda --'],
    ['a="x -- y" -- b -- c', 'd', 'a="x -- y" d -- b -- c'],
    ['a=b--c --d', 'e', 'a=b--c --d e'],
    ['a="never closed -- b', 'e', 'a="never closed -- b e'],
  ])('%p and %p give %p', (cmdline, word, expected) => {
    expect(addKernelWords(cmdline, [word])).toBe(expected);
  });

  test('stand before the first unquoted -- in a configuration too', () => {
    const { config } = parseConfig({
      'boot-source': { kernel_image_path: 'k', boot_args: 'quiet -- single' },
      drives: [{ drive_id: 'a', path_on_host: 'a.img', is_root_device: true }],
      volt: { acpi: false },
    });

    expect(config.cmdline).toMatch(/^quiet root=\/dev\/vda rw virtio_mmio\.device=\S+ -- single$/);
  });
});

test('the words of init are none of the kernel', () => {
  expect(kernelWords('a "b c" d="e f" -- noapic')).toEqual(['a', '"b c"', 'd="e f"']);
});

describe('words that contradict the machine', () => {
  test.each([
    ['noapic', 'noapic'],
    ['quiet nosmp', 'nosmp'],
    ['maxcpus=0', 'maxcpus=0'],
    ['maxcpus=1', 'maxcpus=1'],
    ['nr_cpus=1', 'nr_cpus=1'],
    ['nolapic', 'nolapic'],
    ['disableapic', 'disableapic'],
    ['nolapic_timer', 'nolapic_timer'],
    ['no-kvmclock', 'no-kvmclock'],
    ['clocksource=hpet', 'clocksource=hpet'],
  ])('%p is named with what follows', (cmdline, word) => {
    const [problem, ...others] = contradictingWords(cmdline, MACHINE);

    expect(problem).toStartWith(`${word} on the kernel's command line: `);
    expect(others).toEqual([]);
  });

  test.each([
    'console=ttyS0 reboot=k panic=-1',
    'maxcpus=2',
    'clocksource=tsc',
    'acpi=off noapic no-kvmclock',
  ])('%p contradicts nothing', (cmdline) => {
    expect(contradictingWords(cmdline, MACHINE)).toEqual([]);
  });

  test('no-kvmclock may stay where the kernel is told the frequency, or has a PIT', () => {
    expect(contradictingWords('no-kvmclock tsc_early_khz=2000000', MACHINE)).toEqual([]);
    expect(contradictingWords('no-kvmclock', { ...MACHINE, acpi: false })).toEqual([]);
  });

  test('arguments of init are left alone', () => {
    expect(contradictingWords('quiet -- noapic', MACHINE)).toEqual([]);
  });

  test('acpi=off loses what ACPI alone can tell', () => {
    expect(contradictingWords('acpi=off', { ...MACHINE, maxCpus: 4 })).toHaveLength(1);
    expect(contradictingWords('acpi=off', { ...MACHINE, mpTables: false })[0]).toEndWith('one CPU only');
  });

  test('reach whoever parses a configuration as warnings', () => {
    const { warnings } = parseConfig({ 'boot-source': { kernel_image_path: 'k', boot_args: 'noapic' } });

    expect(warnings).toHaveLength(1);
  });
});

describe('virtio devices', () => {
  const announced = (bootArgs: string, volt: object = {}) =>
    parseConfig({
      'boot-source': { kernel_image_path: 'k', boot_args: bootArgs },
      entropy: {},
      volt,
    }).config.cmdline.includes('virtio_mmio.device=');

  test('are announced on the command line to a guest that will not read ACPI tables, or when asked for', () => {
    expect(announced('quiet')).toBe(false);
    expect(announced('acpi=off')).toBe(true);
    expect(announced('quiet', { acpi: false })).toBe(true);
    expect(announced('quiet', { virtio_cmdline: true })).toBe(true);
  });

  test('that are to be announced and are not there get a warning', () => {
    const { warnings } = parseConfig({
      'boot-source': { kernel_image_path: 'k' },
      volt: { virtio_cmdline: true },
    });

    expect(warnings).toEqual(['--virtio-cmdline announces nothing: the machine has no virtio device']);
  });
});

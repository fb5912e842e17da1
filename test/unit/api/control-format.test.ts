/** What `volt ctl` and `volt ps` print. */
import { describe, expect, test } from 'bun:test';
import {
  formatCpuList,
  formatBalloon,
  formatDevices,
  formatDuration,
  formatRegs,
  formatStatus,
  formatTable,
  formatVcpus,
  formatWhere,
} from '../../../src/cli/ctl-format.ts';
import { FAKE_BALLOON, FAKE_DEVICE, FAKE_REGISTERS, FAKE_STATUS, fakeVcpu } from './control-support.ts';

test('durations have their two largest units', () => {
  const shown = [0, 1500, 59_999, 60_000, 3_600_000, 90_061_000, 8_640_000_000].map(formatDuration);
  expect(shown).toEqual(['0.0s', '1.5s', '59.9s', '1m 0s', '1h 0m', '1d 1h', '100d 0h']);
});

test('CPU lists are those of the kernel', () => {
  const shown = [[], [3], [0, 1], [5, 0, 1, 2, 7, 8]].map(formatCpuList);
  expect(shown).toEqual(['-', '3', '0-1', '0-2,5,7-8']);
});

describe('tables', () => {
  test('of devices have a line for each queue, and say what was agreed on and what went wrong', () => {
    expect(formatDevices([FAKE_DEVICE])).toBe(
      'ID     KIND   ADDRESS     GSI  STATE   QUEUE     SIZE  REQUESTS  FROM GUEST  TO GUEST  KICKS  INTERRUPTS  ERRORS\n' +
        'disk0  block  0xd0000000    5  failed      0  128/256        97     1.5 KiB       0 B     42          61       2\n' +
        'disk0: flush, version1\n' +
        'disk0: failed: queue 0 has an invalid ring or descriptor chain\n',
    );
  });

  test('of a balloon whose guest has statistics of its own steer no terminal', () => {
    const balloon = { ...FAKE_BALLOON, stats: { 'free\u001b[2Jmemory': 1 } };

    expect(formatBalloon(balloon)).toEndWith('free?[2Jmemory          1\n');
  });

  test('of a balloon say what is wanted, what is, and what the guest says', () => {
    expect(formatBalloon(FAKE_BALLOON)).toBe(
      'requested size          128 MiB\n' +
        'actual size             64.5 MiB\n' +
        'released by the balloon 67633152 bytes\n' +
        'released as free pages  0 bytes\n' +
        'free_memory             1000\n',
    );
  });

  test('are as wide as they need to be', () => {
    expect(
      formatTable(
        ['A', 'LONG'],
        [
          ['wide', '1'],
          ['x', '22'],
        ],
        [1],
      ),
    ).toBe(['A     LONG', 'wide     1', 'x       22', ''].join('\n'));
  });

  test('of vCPUs', () => {
    const vcpus = [
      {
        ...fakeVcpu(0),
        mpState: undefined,
        affinity: [0, 1],
        exits: { io: 5, hlt: 9, mmio: 1, intr: 2 },
        rip: '0x100010',
        symbol: 'main+0x10',
      },
      { ...fakeVcpu(1), mpState: 'uninitialized' as const, affinity: [1], threadId: 0, exits: {} },
    ];
    expect(formatVcpus(vcpus)).toBe(
      [
        'VCPU  APIC  ROLE  STATE             MP STATE       THREAD  HOST CPUS  EXITS                        RIP',
        '   0     0  BSP   running           -                 100  0-1        17 (hlt 9, io 5, intr 2, …)  0x100010 main+0x10',
        '   1     1  AP    waiting-for-sipi  uninitialized       -  1          0                            -',
        '',
      ].join('\n'),
    );
  });
});

test('a status is a line for each thing', () => {
  expect(formatStatus(FAKE_STATUS).split('\n')).toEqual([
    'state    running',
    'process  4711',
    'uptime   1.5s',
    'vCPUs    2',
    'memory   512 MiB',
    'kernel   /boot/vmlinux-ä',
    '',
  ]);
});

test('registers are one a line, in their groups', () => {
  expect(formatRegs(FAKE_REGISTERS).split('\n')).toEqual([
    'rax       0x0',
    'rip       0x100000',
    '',
    'cr0       0x80000011',
    '',
    'mpState   runnable',
    '',
  ]);
});

describe('where', () => {
  const vcpus = [{ ...fakeVcpu(0), rip: '0x100010', symbol: 'main+0x10' }, fakeVcpu(1)];

  test('is a line for each vCPU', () => {
    expect(formatWhere(vcpus)).toBe(
      [
        'VCPU  STATE             RIP       SYMBOL',
        '   0  running           0x100010  main+0x10',
        '   1  waiting-for-sipi  -         -',
        '',
      ].join('\n'),
    );
  });

  test('takes the names of the symbols it is given, and no others', () => {
    expect(formatWhere(vcpus, (address) => `at${address}`)).toContain('0x100010  at1048592\n');
    expect(formatWhere(vcpus, () => undefined)).not.toContain('main');
  });
});

test('a SIPI that was received shows its vector', () => {
  const sipi = { mpState: 'sipi-received', sipiVector: 8 } as const;
  expect(formatVcpus([{ ...fakeVcpu(1), ...sipi }])).toContain('  sipi-received 0x08  ');
  expect(formatRegs({ ...FAKE_REGISTERS, ...sipi })).toEndWith('\nmpState   sipi-received 0x08\n');
});

test('what a guest calls itself cannot steer the terminal', () => {
  const kernel = '/boot/\x1b]0;title\x07\nvmlinux\x9b2J';
  expect(formatStatus({ ...FAKE_STATUS, kernel })).toContain('/boot/?]0;title??vmlinux?2J\n');
});

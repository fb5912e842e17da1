/** The PIT, which KVM gets when the guest first touches it: whatever comes first, it counts as any PIT does. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { kvmOpens } from '../cli/volt-process.ts';
import { runGuest, waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest } from './interrupt-guest.ts';
import { tinyMachine } from './running.ts';
import { asm, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(60_000);

const PIC_BASE = 0x20;
const COUNTER = { zero: 0x40, two: 0x42 } as const;
const CONTROL = 0x43;
const PORT_B = 0x61;
const OUT_2 = 0x20;

const openGate = asm.out8(PORT_B, 0x01);
/** Channel 2, low byte then high, mode 0: its output rises when it has counted down. */
const countOnce = [
  ...asm.out8(CONTROL, 0xb0),
  ...asm.out8(COUNTER.two, 0x00),
  ...asm.out8(COUNTER.two, 0x10),
];
/** in al, PORT_B; and al, OUT_2; xor al, OUT_2 */
const untilOut = asm.untilZero([...asm.in8(PORT_B), 0x24, OUT_2, 0x34, OUT_2]);
describe.skipIf(!kvmOpens)('a PIT that is made late (needs /dev/kvm)', () => {
  test.each([
    ['its control word', [...countOnce, ...openGate]],
    ['the gate of channel 2', [...openGate, ...countOnce]],
    ['a read of the gate', [...asm.in8(PORT_B), ...openGate, ...countOnce]],
    ['a read of a counter', [...asm.in8(COUNTER.two), ...openGate, ...countOnce]],
    ['a latch', [...asm.out8(CONTROL, 0x80), ...openGate, ...countOnce]],
  ])('counts channel 2 down when the guest begins with %s', async (_, begin) => {
    const run = await runGuest(program(begin, untilOut, asm.print('out'), asm.exit(0)));

    expect(run).toMatchObject({ stdout: 'out', stderr: '', exitCode: 0 });
  });

  test('interrupts again and again by channel 0, whose control word came first', async () => {
    const code = interruptGuest({
      // Mode 2, 1000 times a second.
      bsp: [
        ...interruptAsm.startPic(PIC_BASE),
        ...[...asm.out8(CONTROL, 0x34), ...asm.out8(COUNTER.zero, 0xa9), ...asm.out8(COUNTER.zero, 0x04)],
        ...interruptAsm.idle,
      ],
      handlers: { [PIC_BASE]: [...asm.print('t'), ...asm.out8(0x20, 0x20)] },
    });
    await using running = await tinyMachine(code, 1);

    await waitUntil('ticks', () => running.output.length >= 10);

    expect(new Set(running.output)).toEqual(new Set('t'));
  });
});

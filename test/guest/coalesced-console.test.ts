/** Console output that KVM gathers: all of it, in order, on time. Needs /dev/kvm with coalesced PIO. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { VirtualMachine } from '../../src/api/index.ts';
import { EXIT } from '../../src/kvm/abi.ts';
import { VCPU_WORD } from '../../src/vmm/shared-state.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine, smallConfig, waitUntil } from './guest-run.ts';
import { tinyMachine } from './running.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);
const needsKvm = test.skipIf(!kvmOpens);

const COM1 = 0x3f8;
const DATA_PORT = [0xba, ...u32(COM1)]; // mov edx
/** Far more than it takes to be seen as printing fast. */
const MANY = 20_000;

/** Sends AL, adds 1 to it, and so on, `count` times; AL starts with 0. */
function printCounting(count: number): number[] {
  const body = [0xee, 0xfe, 0xc0, 0x49]; // out dx, al; inc al; dec ecx
  return [...DATA_PORT, 0xb0, 0, 0xb9, ...u32(count), ...asm.untilZero(body)];
}

function countingText(count: number): string {
  return Buffer.from(Uint8Array.from({ length: count }, (_, i) => i & 0xff)).toString('latin1');
}

async function run(code: Uint8Array): Promise<{ output: string; ioExits: number }> {
  using folder = new TemporaryFolder();
  using vm = new VirtualMachine(smallConfig(await folder.write('kernel', buildPvhElf(code))));
  const { output } = await runMachine(vm);
  return { output, ioExits: vm.shared.vcpuWords(0)[VCPU_WORD.exits + EXIT.io]! };
}

describe('a guest that prints fast', () => {
  needsKvm('leaves the guest far less often than once a byte, and every byte comes in order', async () => {
    const { output, ioExits } = await run(program(printCounting(MANY), asm.exit(0)));

    expect(output).toBe(countingText(MANY));
    expect(ioExits).toBeLessThan(MANY / 10);
  });

  needsKvm('and then stands still for ever is heard to the last byte', async () => {
    // Fewer than fill the ring again, so that only the main thread can find the last ones.
    await using running = await tinyMachine(program(printCounting(MANY + 77), asm.halt()), 1);

    await waitUntil('all of it', () => running.output.length === MANY + 77);

    expect(running.output).toBe(countingText(MANY + 77));
  });

  needsKvm('prints as before after it was silent', async () => {
    // dec ecx; jnz: emulated or not, about as long as the quiet that ends the gathering, or much longer.
    const rest = [0xb9, ...u32(0x8_0000), 0x49, 0x75, 0xfd];
    const { output } = await run(
      program(printCounting(MANY), rest, printCounting(MANY), rest, asm.print('end'), asm.exit(0)),
    );

    expect(output).toBe(`${countingText(MANY)}${countingText(MANY)}end`);
  });

  needsKvm('may use the port for the divisor in between: nothing of that is printed', async () => {
    const divisor = [
      ...asm.out8(COM1 + 3, 0x80),
      ...asm.out8(COM1, 0x5a),
      ...asm.in8(COM1),
      ...asm.storeAl(0x20_0000),
      ...asm.out8(COM1 + 3, 0x03),
    ];
    const { output } = await run(
      program(printCounting(MANY), divisor, asm.printMemory(0x20_0000, 1), asm.print('!'), asm.exit(0)),
    );

    expect(output).toBe(`${countingText(MANY)}Z!`);
  });

  needsKvm('gets transmitter interrupts at once when it turns them on', async () => {
    const turnOn = asm.out8(COM1 + 1, 0x02);
    const acknowledge = asm.in8(COM1 + 2);
    const readAfterByte = [...asm.out8(COM1, 0x2a), ...asm.in8(COM1 + 2), ...asm.storeAl(0x20_0000)];

    const { output } = await run(
      program(
        printCounting(MANY),
        turnOn,
        acknowledge,
        readAfterByte,
        asm.printMemory(0x20_0000, 1),
        asm.exit(0),
      ),
    );

    const TRANSMITTER_EMPTY = '\x02';
    expect(output).toBe(`${countingText(MANY)}*${TRANSMITTER_EMPTY}`);
  });

  needsKvm('with transmitter interrupts on leaves the guest for each byte', async () => {
    const { output, ioExits } = await run(
      program(asm.out8(COM1 + 1, 0x02), printCounting(MANY), asm.exit(0)),
    );

    expect(output).toBe(countingText(MANY));
    expect(ioExits).toBeGreaterThan(MANY);
  });
});

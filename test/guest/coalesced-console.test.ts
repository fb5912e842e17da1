/** Console output that KVM gathers while a guest prints fast: all of it, in order, on time. Needs /dev/kvm. */
import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { VirtualMachine, type VmEnd } from '../../src/api/index.ts';
import { EXIT, REGS } from '../../src/kvm/abi.ts';
import { readRegs } from '../../src/kvm/vcpu.ts';
import { ConsolePump } from '../../src/vmm/serial/pump.ts';
import { isConsoleFull } from '../../src/vmm/serial/ring.ts';
import { VCPU_WORD } from '../../src/vmm/bus/shared-state.ts';
import { kvmOpens, runVolt, TemporaryFolder } from '../cli/volt-process.ts';
import { runMachine, smallConfig, waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest } from './interrupt-guest.ts';
import { copyTo8000, tinyMachine } from './running.ts';
import { asm, buildPvhElf, program, u32 } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const COM1 = 0x3f8;
const LINE_CONTROL = COM1 + 3;
/** Far more than it takes to be seen as printing fast. */
const MANY = 20_000;
/** So much that most of it comes after the main thread has seen that, on a busy machine too. */
const VERY_MANY = 200_000;
/** Too few for that. */
const FEW = 200;

/** Sends 0, 1, 2 and so on, `count` bytes. ESI counts them, each before it is sent. */
function printCounting(count: number): number[] {
  const send = [0xee, 0xfe, 0xc0]; // out dx, al; inc al
  return [
    ...[0xba, ...u32(COM1), 0xb0, 0, 0xb9, ...u32(count)], // mov edx, …; mov al, 0; mov ecx, count
    ...asm.untilZero([0x46, ...send, 0x49]), // inc esi; …; dec ecx
  ];
}

const zeroEsi = [0x31, 0xf6];

function countingText(count: number): string {
  return Buffer.from(Uint8Array.from({ length: count }, (_, i) => i & 0xff)).toString('latin1');
}

/** Does `body`, which leaves EDI alone, `count` times. */
function times(count: number, body: readonly number[]): number[] {
  return [0xbf, ...u32(count), ...asm.untilZero([...body, 0x4f])]; // mov edi, count; …; dec edi
}

const ioExits = (vm: VirtualMachine, vcpu = 0) => vm.shared.vcpuWords(vcpu)[VCPU_WORD.exits + EXIT.io]!;

async function run(code: Uint8Array, cpus = 1): Promise<{ output: string; end: VmEnd; ioExits: number }> {
  using folder = new TemporaryFolder();
  using vm = new VirtualMachine(smallConfig(await folder.write('kernel', buildPvhElf(code)), cpus));
  const { output, end } = await runMachine(vm);
  return { output, end, ioExits: ioExits(vm) };
}

/** How many bytes the guest has sent by ESI of a vCPU that is out of KVM_RUN: so many, or one less. */
function sentBytes(vm: VirtualMachine): number {
  return readRegs(vm.vcpus[0]!.kvm.fd).getUint32(REGS.rsi, true);
}

describe.skipIf(!kvmOpens)('a guest that prints fast (needs /dev/kvm)', () => {
  test('leaves the guest far less often than once a byte, and every byte comes in order', async () => {
    const { output, ioExits } = await run(program(printCounting(VERY_MANY), asm.exit(0)));

    expect(output).toBe(countingText(VERY_MANY));
    expect(ioExits).toBeLessThan(VERY_MANY / 2);
  });

  test('and then stands still for ever is heard to the last byte', async () => {
    await using running = await tinyMachine(program(printCounting(MANY + 77), asm.halt()), 1);

    await waitUntil('all of it', () => running.output.length === MANY + 77);

    expect(running.output).toBe(countingText(MANY + 77));
  });

  test('may use the port for the divisor in between: nothing of that is printed, and it is the divisor', async () => {
    const ROUNDS = 200;
    const divisor = [...asm.out8(LINE_CONTROL, 0x80), ...asm.out8(COM1, 0x5a), ...asm.in8(COM1)];
    const body = [...printCounting(37), ...divisor, ...asm.storeAl(0x20_0000), ...asm.out8(LINE_CONTROL, 3)];

    const { output } = await run(
      program(printCounting(MANY), times(ROUNDS, body), asm.printMemory(0x20_0000, 1), asm.exit(0)),
    );

    expect(output).toBe(`${countingText(MANY)}${countingText(37).repeat(ROUNDS)}Z`);
  });

  test('may use other ports, other widths and strings in between', async () => {
    const ROUNDS = 200;
    const TEXT = 0x20_0000;
    const body = [
      ...[...printCounting(11), ...asm.out8(0x80, 0)],
      ...[...asm.out16(COM1, 0x0041), ...asm.out8(COM1 + 7, 0x42), ...asm.in8(COM1 + 7)],
      ...[0xba, ...u32(COM1), 0xee], // out dx, al: the B of the scratch register
      ...[...asm.loadEax(0x4645_4443), ...asm.storeEax(TEXT), ...asm.printMemory(TEXT, 4)],
    ];

    const { output } = await run(program(printCounting(MANY), times(ROUNDS, body), asm.exit(0)));

    expect(output).toBe(countingText(MANY) + `${countingText(11)}ABCDEF`.repeat(ROUNDS));
  });

  test('finds the line status ready before each byte, with an exit for that alone', async () => {
    const poll = [0xba, ...u32(COM1 + 5), ...asm.untilZero([0xec, 0x24, 0x20, 0x34, 0x20])]; // in al, dx; and; xor
    const send = [0xba, ...u32(COM1), 0xb0, 0x70, 0xee]; // mov al, 'p'; out dx, al

    const { output, ioExits } = await run(program(times(VERY_MANY, [...poll, ...send]), asm.exit(0)));

    expect(output).toBe('p'.repeat(VERY_MANY));
    expect(ioExits).toBeGreaterThanOrEqual(VERY_MANY);
    expect(ioExits).toBeLessThan(1.5 * VERY_MANY);
  });
});

describe.skipIf(!kvmOpens)('a guest that prints little (needs /dev/kvm)', () => {
  test('leaves the guest for each byte', async () => {
    await using running = await tinyMachine(program(printCounting(FEW), asm.halt()), 1);

    await waitUntil('all of it', () => running.output.length === FEW);

    expect(ioExits(running.vm)).toBe(FEW);
  });

  test('after it printed fast and was silent, too; and is gathered again when it prints fast again', async () => {
    const VECTOR = 0x41;
    const wait = interruptAsm.waitForInterrupt;
    const bsp = [
      ...[...printCounting(MANY), ...wait, ...printCounting(FEW), ...wait],
      ...[...printCounting(VERY_MANY), ...asm.exit(0)],
    ];
    const code = interruptGuest({ bsp, handlers: { [VECTOR]: interruptAsm.endOfInterrupt } });
    await using running = await tinyMachine(code, 1);
    const { vm, control } = running;
    const goOn = () => control.sendIpi({ mode: 'fixed', destination: 0, vector: VECTOR });
    await waitUntil('the first burst', () => running.output.length === MANY);
    await Bun.sleep(300);

    const before = ioExits(vm);
    goOn();
    await waitUntil('few bytes', () => running.output.length === MANY + FEW);
    const afterFew = ioExits(vm);
    goOn();
    await vm.ended;
    const afterAll = ioExits(vm);
    await waitUntil('the second burst', () => running.output.length === MANY + FEW + VERY_MANY);

    expect(running.output).toBe(countingText(MANY) + countingText(FEW) + countingText(VERY_MANY));
    expect(afterFew - before).toBe(FEW);
    expect(afterAll - afterFew).toBeLessThan(VERY_MANY / 2);
  });
});

describe.skipIf(!kvmOpens)('transmitter interrupts (need /dev/kvm)', () => {
  test('keep the exits: a guest that has them on leaves for each byte', async () => {
    const { output, ioExits } = await run(
      program(asm.out8(COM1 + 1, 0x02), printCounting(MANY), asm.exit(0)),
    );

    expect(output).toBe(countingText(MANY));
    expect(ioExits).toBeGreaterThan(MANY);
  });

  test('that are turned on while output is gathered come after each byte', async () => {
    const ROUNDS = 300;
    const PIC_BASE = 0x20;
    const bsp = [
      ...interruptAsm.startPic(PIC_BASE),
      ...printCounting(MANY),
      ...asm.out8(COM1 + 1, 0x02),
      ...times(ROUNDS, [...interruptAsm.waitForInterrupt, ...asm.out8(COM1, 0x69)]),
      ...asm.exit(0),
    ];
    const acknowledge = [...asm.in8(COM1 + 2), ...asm.out8(0x20, 0x20)];

    const { output, end } = await run(interruptGuest({ bsp, handlers: { [PIC_BASE + 4]: acknowledge } }));

    expect(output).toBe(countingText(MANY) + 'i'.repeat(ROUNDS));
    expect(end.kind).toBe('guest-exit');
  });
});

const FLAG = 0x8100;
const clearFlag = [...asm.loadEax(0), ...asm.storeEax(FLAG)];
const untilFlag = (value: number) => asm.untilZero([0xa0, ...u32(FLAG), 0x34, value]); // mov al, [FLAG]; xor al, value
const enableApic = [...asm.loadEax(0x1ff), ...asm.storeEax(0xfee0_00f0)];
const sendToOthers = (command: number) => [
  ...[...asm.loadEax(0xc_0000 | command), ...asm.storeEax(0xfee0_0300)],
];
const startAps = [...enableApic, ...sendToOthers(0x4500), ...sendToOthers(0x4608)];
const halt16 = [0xfa, 0xf4, 0xeb, 0xfd];

describe.skipIf(!kvmOpens)('several vCPUs that print fast (need /dev/kvm)', () => {
  test('at the same time: no byte of any is lost, and those of each come in order', async () => {
    const CPUS = 3;
    // Each AP takes a number by xadd; its bytes have that in their upper half and count in the lower one.
    const ap = [
      ...[0xb0, 0x01, 0x2e, 0xf0, 0x0f, 0xc0, 0x06, 0x04, 0x01], // mov al, 1; lock xadd cs:[0x104], al
      ...[0xfe, 0xc0, 0xc0, 0xe0, 0x04, 0x88, 0xc3], // inc al; shl al, 4; mov bl, al
      ...[0xba, ...u32(COM1).slice(0, 2), 0xb9, ...u32(MANY).slice(0, 2), 0xb7, 0], // mov dx, …; mov cx, MANY; mov bh, 0
      // mov al, bl; or al, bh; out dx, al; inc bh; and bh, 15; dec cx; jnz back
      ...[0x88, 0xd8, 0x08, 0xf8, 0xee, 0xfe, 0xc7, 0x80, 0xe7, 0x0f, 0x49, 0x75, 0xf3],
      ...[0x2e, 0xf0, 0xfe, 0x06, 0x00, 0x01, ...halt16], // lock inc byte cs:[0x100]
    ];
    const clearNumbers = [...asm.loadEax(0), ...asm.storeEax(FLAG + 4)];
    const count = [0xba, ...u32(COM1), 0x88, 0xd8, 0xee, 0xfe, 0xc3, 0x80, 0xe3, 0x0f]; // out bl; inc bl; and bl, 15
    const bsp = [0xb3, 0x00, ...times(MANY, count)];

    const { output, end } = await run(
      program(clearFlag, clearNumbers, copyTo8000(ap), startAps, bsp, untilFlag(CPUS - 1), asm.exit(0)),
      CPUS,
    );

    const each = Array.from({ length: MANY }, (_, i) => i & 15);
    const bytes = [...Buffer.from(output, 'latin1')];
    expect(end.kind).toBe('guest-exit');
    for (let cpu = 0; cpu < CPUS; cpu++) {
      expect(bytes.filter((byte) => byte >> 4 === cpu).map((byte) => byte & 15)).toEqual(each);
    }
    expect(bytes.length).toBe(CPUS * MANY);
  });

  test('in turns, one leaving the guest in between and one not: in the order that they took turns in', async () => {
    const TURNS = 100;
    const PIECE = 90;
    const ap = [
      ...[0x2e, 0x80, 0x3e, 0x00, 0x01, 0x01, 0x75, 0xf8], // cmp byte cs:[0x100], 1; jne back
      ...[0xba, ...u32(COM1).slice(0, 2), 0xb9, PIECE, 0x00, 0xb0, 0x61], // mov dx, …; mov cx, PIECE; mov al, 'a'
      ...[0xee, 0x49, 0x75, 0xfc], // out dx, al; dec cx; jnz back
      ...[0x2e, 0xc6, 0x06, 0x00, 0x01, 0x00, 0xeb, 0xe4], // mov byte cs:[0x100], 0; jmp to the start
    ];
    const printB = [0xba, ...u32(COM1), 0xb0, 0x62, 0xb9, ...u32(PIECE), ...asm.untilZero([0xee, 0x49])];
    const turn = [
      ...[...printB, ...asm.in8(COM1 + 7), ...asm.out8(0x80, 0)],
      ...[...asm.loadEax(1), ...asm.storeEax(FLAG), ...untilFlag(0)],
    ];

    const { output } = await run(
      program(clearFlag, copyTo8000(ap), startAps, printCounting(MANY), times(TURNS, turn), asm.exit(0)),
      2,
    );

    expect(output).toBe(countingText(MANY) + ('b'.repeat(PIECE) + 'a'.repeat(PIECE)).repeat(TURNS));
  });
});

describe.skipIf(!kvmOpens)('the end of a guest that prints fast (needs /dev/kvm)', () => {
  const jumpToNothing = [...asm.loadEax(0xd000_0000), 0xff, 0xe0]; // jmp eax

  test.each([
    ['status', 'guest-exit', asm.exit(0)],
    ['reset', 'reset', asm.out8(0x64, 0xfe)],
    ['power-off', 'power-off', asm.out8(0x600, 0x34)],
    ['triple fault', 'triple-fault', [0x0f, 0x0b]],
    ['a jump to where nothing is', 'kvm-failure', jumpToNothing],
  ] as const)('by %s comes after its last byte', async (_, kind, code) => {
    const { output, end } = await run(program(printCounting(MANY + 13), code));

    expect(output).toBe(countingText(MANY + 13));
    expect(end.kind).toBe(kind);
  });

  test('from outside comes after whatever it has sent', async () => {
    await using running = await tinyMachine(program(zeroEsi, asm.forEver(printCounting(0x1_0000))), 1);
    await waitUntil('much of it', () => running.output.length > MANY);

    const end = await running.vm.stop();
    const sent = sentBytes(running.vm);
    await waitUntil('the rest', () => running.output.length >= sent - 1);

    expect(end.kind).toBe('stopped');
    expect(running.output.length).toBeLessThanOrEqual(sent);
    expect(running.output).toBe(countingText(running.output.length));
  });

  test('and its new start, again and again, on the same console', async () => {
    using folder = new TemporaryFolder();
    const code = program(printCounting(MANY), asm.out8(0x64, 0xfe));
    const kernel = await folder.write('kernel', buildPvhElf(code));

    const { bytes } = await runVolt(['--kernel', kernel, '--memory', '32M', '--cpus', '2']);

    expect(Buffer.from(bytes).toString('latin1')).toBe(countingText(MANY).repeat(5));
  });
});

describe.skipIf(!kvmOpens)('a pause in the middle of output (needs /dev/kvm)', () => {
  test('keeps back nothing that was sent before it, and nothing is missing after it', async () => {
    await using running = await tinyMachine(program(zeroEsi, asm.forEver(printCounting(0x1_0000))), 1);
    for (let round = 1; round <= 5; round++) {
      await waitUntil('more of it', () => running.output.length > round * MANY);
      await running.control.pause();
      const sent = sentBytes(running.vm);
      await waitUntil('all that was sent', () => running.output.length >= sent - 1);
      // Long enough for the gathering to end, too, every other time.
      await Bun.sleep(round % 2 === 0 ? 100 : 10);
      expect(running.output.length).toBeLessThanOrEqual(sent);
      await running.control.resume();
    }

    expect(running.output).toBe(countingText(running.output.length));
  });
});

describe.skipIf(!kvmOpens)('a console that nobody reads for a while (needs /dev/kvm)', () => {
  test('holds up the guest, and nothing else, and loses nothing', async () => {
    using folder = new TemporaryFolder();
    const code = program(printCounting(150_000), asm.exit(0));
    using vm = new VirtualMachine(smallConfig(await folder.write('kernel', buildPvhElf(code))));
    let output = '';
    let read: 'until it prints fast' | 'nothing' | 'all' = 'until it prints fast';
    const take = (bytes: Uint8Array) => {
      if (read === 'nothing') return 0;
      output += Buffer.from(bytes).toString('latin1');
      if (read !== 'all' && output.length > 2000) read = 'nothing';
      return bytes.length;
    };
    const pump = new ConsolePump(vm.shared, take, () => {});
    void pump.run();
    vm.start();

    await waitUntil('it is full', () => isConsoleFull(vm.shared));
    await Bun.sleep(100);
    const typed = vm.sendConsole(Buffer.from('x'));
    read = 'all';
    const end = await vm.ended;
    await pump.finish();

    expect(typed).toBe(0);
    expect(end.kind).toBe('guest-exit');
    expect(output).toBe(countingText(150_000));
  });
});

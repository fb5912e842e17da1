/** Guests in particular states are saved, and go on in another machine or another process. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { resolve } from 'node:path';
import {
  HostResources,
  mergeConfig,
  parseConfig,
  VirtualMachine,
  type ConfigInput,
  type VmConfig,
  VoltError,
} from '../../src/api/index.ts';
import { viewOf } from '../../src/binary/bytes.ts';
import { LAPIC, PIT_STATE } from '../../src/kvm/abi.ts';
import { savedMsrs } from '../../src/kvm/saved-msrs.ts';
import { CLOCK_DATA, STATE_MSR } from '../../src/kvm/state-abi.ts';
import { savedClock } from '../../src/kvm/vm-state.ts';
import { captureMachine } from '../../src/vmm/state/capture.ts';
import { encodeState, type MachineState, type SavedVcpu } from '../../src/vmm/state/machine-state.ts';
import { kvmOpens, TemporaryFolder } from '../cli/volt-process.ts';
import { testNeeding } from '../support/needs.ts';
import { seededRandom } from '../unit/support/random.ts';
import { smallConfig, waitUntil } from './guest-run.ts';
import { interruptAsm, interruptGuest } from './interrupt-guest.ts';
import { pluggingGuest } from './plugging-guest.ts';
import { copyTo8000 } from './running.ts';
import { CollectedMachine, restoreMachine, saveMachine, type RestoreChoice } from './saved-machine.ts';
import { asm, buildPvhElf, echoGuest, program } from './tiny-guest.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

const needsKvm = testNeeding('/dev/kvm', !kvmOpens);
const PIC_BASE = 0x20;

/** A guest under way, until `isReady` holds of its output; then it is saved. */
async function savedGuest(
  code: Uint8Array,
  change: (config: VmConfig) => VmConfig = (config) => config,
  isReady = (output: string) => output.includes('ready'),
  act: (vm: VirtualMachine, output: () => string) => Promise<unknown> = async () => {},
) {
  const stack = new AsyncDisposableStack();
  const folder = stack.use(new TemporaryFolder());
  const resources = stack.use(new HostResources());
  const path = await folder.write('kernel', buildPvhElf(code));
  const before = new CollectedMachine(new VirtualMachine(change(smallConfig(path)), { resources }));
  stack.defer(() => before.end().then(() => {}));
  await waitUntil('the guest is ready', () => isReady(before.output));
  await act(before.vm, () => before.output);
  const saved = stack.use(await saveMachine(before.vm));
  const restore = (choice?: RestoreChoice, from: { file: Uint8Array } = saved) =>
    restoreMachine({ ...saved, ...from }, resources, choice);
  return {
    ...{ path, resources, before, saved, restore },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** The small machine with other sections. */
const machine = (sections: ConfigInput) => (config: VmConfig) =>
  parseConfig(mergeConfig(config.input, sections)).config;
const withCpus = (count: number) => machine({ 'machine-config': { vcpu_count: count } });
const HOTPLUGGABLE = machine({ volt: { max_cpus: 3 } });

function captureAgain(vm: VirtualMachine): MachineState {
  return captureMachine(vm.machine, { id: '0'.repeat(32), createdAt: 0, layers: [] });
}

/** What does not change with time: the TSC and the count of a timer do. */
function atRest({ lapic, msrs, ...rest }: SavedVcpu) {
  const registers = lapic.slice();
  viewOf(registers).setUint32(0x390, 0, true);
  const timeless = savedMsrs(msrs).filter(({ index }) => index !== STATE_MSR.ia32Tsc);
  return { ...rest, lapic: registers, msrs: timeless };
}

describe('a saved machine', () => {
  needsKvm('has all its registers in KVM again once it is restored', async () => {
    // With ACPI the restored guest has an event: it is another copy.
    await using guest = await savedGuest(
      program(asm.print('ready'), asm.forEver(asm.in8(0x42))),
      machine({ volt: { acpi: false } }),
    );
    // XMM3, which no kernel of these tests uses: components x87 and SSE are in use.
    const [vcpu] = guest.saved.state.vcpus;
    const xsave = vcpu!.xsave!.slice();
    xsave.set([...Array(16).keys()], 160 + 3 * 16);
    viewOf(xsave).setBigUint64(512, 3n, true);
    const state = { ...guest.saved.state, vcpus: [{ ...vcpu!, xsave }] };

    using vm = guest.restore({}, { file: encodeState(state) });
    const again = captureAgain(vm);

    expect(again.vcpus.map(atRest)).toEqual(state.vcpus.map(atRest));
    expect(vcpu!.lapic).toHaveLength(LAPIC.size);
    expect(again.vm.picMaster).toEqual(state.vm.picMaster);
    expect(again.vm.picSlave).toEqual(state.vm.picSlave);
    expect(again.vm.ioapic).toEqual(state.vm.ioapic);
    expect(again.vm.pit).toHaveLength(PIT_STATE.size);
    expect(again.chips).toEqual(state.chips);
    expect(again.config).toEqual(state.config);
  });

  needsKvm('reads the bytes that were in the FIFO of its serial port', async () => {
    const type = async (vm: VirtualMachine) => {
      await vm.pause();
      vm.sendConsole(Buffer.from('hello\x04'));
    };
    await using guest = await savedGuest(echoGuest(), undefined, undefined, type);

    const after = new CollectedMachine(guest.restore());

    expect(await after.vm.ended).toMatchObject({ kind: 'guest-exit', exitCode: 0 });
    expect(await after.end()).toBe('hello');
  });

  needsKvm('that halts until its PIT interrupts goes on ticking', async () => {
    const code = interruptGuest({
      bsp: [
        ...interruptAsm.startPic(PIC_BASE),
        ...[...asm.out8(0x43, 0x34), ...asm.out8(0x40, 0xa9), ...asm.out8(0x40, 0x04)],
        ...interruptAsm.idle,
      ],
      handlers: { [PIC_BASE]: [...asm.print('t'), ...asm.out8(0x20, 0x20)] },
    });
    await using guest = await savedGuest(code, undefined, (output) => output.length > 5);

    const after = new CollectedMachine(guest.restore());
    await waitUntil('ticks', () => after.output.length >= 10);

    expect(new Set(await after.end())).toEqual(new Set('t'));
  });

  needsKvm('with an AP in real mode goes on there', async () => {
    const wait = [0xba, 0xfd, 0x03, 0xec, 0x24, 0x01, 0x74, 0xfb]; // in al, LSR; and al, 1; jz
    const echo = [0xba, 0xf8, 0x03, 0xec, 0xee, 0xba, 0xf4, 0x00, 0x31, 0xc0, 0xee]; // and out 0xF4, 0
    const say = [0xba, 0xf8, 0x03, ...[...Buffer.from('ready')].flatMap((byte) => [0xb0, byte, 0xee])];
    const ipi = (command: number) => [
      ...[...asm.loadEax(0x1ff), ...asm.storeEax(0xfee0_00f0)],
      ...[...asm.loadEax(0xc_0000 | command), ...asm.storeEax(0xfee0_0300)],
    ];
    const code = program(copyTo8000([...say, ...wait, ...echo]), ipi(0x4500), ipi(0x4608), asm.halt());
    await using guest = await savedGuest(code, withCpus(2));

    const after = new CollectedMachine(guest.restore());
    after.vm.sendConsole(Buffer.from('x'));

    expect(await after.vm.ended).toMatchObject({ kind: 'guest-exit', exitCode: 0, vcpu: 1 });
    expect(await after.end()).toBe('x');
  });

  needsKvm('with an AP that waits for its SIPI still has it waiting', async () => {
    await using guest = await savedGuest(program(asm.print('ready'), asm.halt()), withCpus(2));

    const after = new CollectedMachine(guest.restore());
    await after.vm.pause();
    const again = captureAgain(after.vm);
    await after.end();

    const [UNINITIALIZED, HALTED] = [1, 3];
    expect(guest.saved.state.vcpus.map(({ mpState }) => mpState)).toEqual([HALTED, UNINITIALIZED]);
    expect(again.vcpus.map(({ mpState }) => mpState)).toEqual([HALTED, UNINITIALIZED]);
  });

  needsKvm('keeps a plugged vCPU, and one that the guest has ejected can be plugged again', async () => {
    const plug = async (vm: VirtualMachine, output: () => string) => {
      await vm.setCpuCount(3);
      await waitUntil('both plugged vCPUs say so', () => output() === 'baa');
      await vm.setCpuCount(2);
    };
    await using guest = await savedGuest(pluggingGuest(), HOTPLUGGABLE, (output) => output === 'b', plug);

    const after = new CollectedMachine(guest.restore());
    const present = after.vm.vcpus.map(({ index }) => index);
    const change = await after.vm.setCpuCount(3);
    await waitUntil('the plugged vCPU says so', () => after.output.length > 0);
    const back = await after.vm.setCpuCount(1);

    expect(guest.before.output).toBe('baa');
    expect(guest.saved.state.vcpus.map(({ parked }) => parked)).toEqual([false, false, true]);
    expect(present).toEqual([0, 1]);
    expect(change).toMatchObject({ present: 3, added: [2] });
    expect(back).toMatchObject({ present: 1, removed: [1, 2] });
    expect(await after.end()).toBe('a');
  });

  needsKvm('has room for vCPUs that are plugged for the first time', async () => {
    await using guest = await savedGuest(pluggingGuest(), HOTPLUGGABLE, (output) => output === 'b');

    const after = new CollectedMachine(guest.restore());
    await after.vm.setCpuCount(3);
    await waitUntil('both say so', () => after.output.length === 2);

    expect(await after.end()).toBe('aa');
  });

  needsKvm('that resets itself after it was restored boots its kernel anew', async () => {
    const onByte = asm.untilZero([...asm.in8(0x3fd), 0x24, 0x01, 0x34, 0x01]);
    const code = program(asm.print('ready'), onByte, asm.in8(0x3f8), asm.out8(0x64, 0xfe), asm.halt());
    await using guest = await savedGuest(code);

    const after = new CollectedMachine(guest.restore());
    after.vm.sendConsole(Buffer.from('x'));
    const end = await after.vm.ended;
    const next = new CollectedMachine(
      new VirtualMachine(after.vm.configAfterReset, { resources: guest.resources }),
    );
    await waitUntil('the guest is ready again', () => next.output.includes('ready'));
    await Promise.all([after.end(), next.end()]);

    expect(end.kind).toBe('reset');
  });

  needsKvm('goes on in another process', async () => {
    await using guest = await savedGuest(echoGuest());
    using folder = new TemporaryFolder();
    const path = await folder.write('state', guest.saved.file);
    const script = resolve(import.meta.dir, 'restore-child.ts');

    await using child = Bun.spawn([process.execPath, script, path, guest.saved.memoryPath, 'hello\x04'], {
      stdout: 'pipe',
      stderr: 'inherit',
    });

    expect(await new Response(child.stdout).text()).toBe('hello');
    expect(await child.exited).toBe(0);
  });
});

needsKvm('a guest that has ended cannot be saved', async () => {
  using folder = new TemporaryFolder();
  const path = await folder.write('kernel', buildPvhElf(program(asm.exit(0))));
  const machine = new CollectedMachine(new VirtualMachine(smallConfig(path)));
  await machine.vm.ended;

  const save = () => captureAgain(machine.vm);

  expect(save).toThrow('Cannot save the guest: it has ended; start it again');
  await machine.end();
});

describe('clocks', () => {
  const HOUR_NS = 3_600_000_000_000n;
  needsKvm.each([
    ['offset', 0n],
    ['realtime', HOUR_NS],
  ] as const)('of %s: kvmclock goes on', async (clock, passed) => {
    await using guest = await savedGuest(program(asm.print('ready'), asm.halt()));
    const { state } = guest.saved;
    const data = state.vm.clock.slice();
    viewOf(data).setUint32(CLOCK_DATA.flags, 0, true);
    const createdAt = Date.now() - Number(HOUR_NS / 1_000_000n);
    const file = encodeState({ ...state, createdAt, vm: { ...state.vm, clock: data } });

    using vm = guest.restore({ clock }, { file });
    const gone = savedClock(captureAgain(vm).vm.clock) - savedClock(data) - passed;

    expect(gone).toBeGreaterThanOrEqual(0n);
    expect(gone).toBeLessThan(HOUR_NS / 2n);
  });
});

describe('a snapshot that does not fit', () => {
  needsKvm.each([
    [
      'room for vCPUs',
      machine({ volt: { max_cpus: 7 } }),
      'Cannot restore the machine: the snapshot has room',
    ],
    [
      'topology',
      machine({ volt: { sockets: 2, cores: 3 } }),
      'Cannot restore vCPU 3: its APIC id is 3, and 4 by',
    ],
    ['memory', machine({ 'machine-config': { mem_size_mib: 64 } }), 'Cannot'],
  ])('because of its %s: one line says so', async (_name, change, message) => {
    await using guest = await savedGuest(program(asm.print('ready'), asm.halt()), withCpus(6));

    expect(() => guest.restore({ change })).toThrow(message);
  });

  needsKvm('because any of its structures is forged: one line, or a machine', async () => {
    await using guest = await savedGuest(program(asm.print('ready'), asm.forEver(asm.in8(0x42))));
    const { state } = guest.saved;
    const random = seededRandom(1);
    const structs = Object.keys(state.vcpus[0]!).filter(
      (name) => state.vcpus[0]![name as 'regs'] instanceof Uint8Array,
    );
    const forge = () => {
      const name = random.pick(structs as [string, ...string[]]) as 'regs';
      const forged = state.vcpus[0]![name].slice();
      for (let i = 0; i < 8; i++) forged[random.int(0, forged.length - 1)] = random.int(0, 255);
      return encodeState({ ...state, vcpus: [{ ...state.vcpus[0]!, [name]: forged }] });
    };

    const wrong = Array.from({ length: 60 }, () => {
      try {
        guest.restore({}, { file: forge() })[Symbol.dispose]();
        return [];
      } catch (error) {
        return error instanceof VoltError && !error.message.includes('\n') ? [] : [error];
      }
    });

    expect(structs.length).toBeGreaterThan(8);
    expect(wrong.flat()).toEqual([]);
  });

  needsKvm('of forged registers: one line names the vCPU', async () => {
    await using guest = await savedGuest(program(asm.print('ready'), asm.halt()));
    const { state } = guest.saved;
    const forged = {
      ...state,
      vcpus: state.vcpus.map((vcpu) => ({ ...vcpu, sregs: vcpu.sregs.map(() => 0xff) })),
    };

    expect(() => guest.restore({}, { file: encodeState(forged) })).toThrow(/^Cannot restore vCPU 0: [^\n]+$/);
  });
});

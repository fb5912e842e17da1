/**
 * Stops and resumes all vCPUs of a guest for a debugger, and says why they stopped. On the main thread.
 *
 * While the guest stands, its vCPUs are paused like by `volt ctl pause`. A vCPU that KVM takes out of the guest for a
 * breakpoint pauses itself; the others are then paused as well. A vCPU that was paused already, by a user, is not
 * resumed.
 */
import { GUESTDBG, EXCEPTION } from '../../kvm/debug-abi.ts';
import {
  guestDebugFlags,
  NO_GUEST_DEBUG,
  readDebugExit,
  setGuestDebug,
  type GuestDebug,
} from '../../kvm/guest-debug.ts';
import { readSregs } from '../../kvm/vcpu.ts';
import type { BreakpointKind, WatchKind } from '../../gdb/commands.ts';
import { DR6_STEP } from '../../gdb/debug-registers.ts';
import { VoltError } from '../../volt-error.ts';
import { DEBUG_STOP, VCPU_COMMAND, VCPU_WORD, VM_WORD } from '../bus/shared-state.ts';
import { pauseVcpus, releasePaused } from '../vcpu/control.ts';
import type { Vcpu } from '../vcpu/vcpu.ts';
import type { VirtualMachine } from '../virtual-machine.ts';
import { Breakpoints } from './breakpoints.ts';
import { holdBeforeStart } from './hold-before-start.ts';
import { physicalOf, readLinear, writeLinear } from './linear-memory.ts';
import { linearRip, pagingOf, readBlocks } from './registers.ts';

export type StopReason =
  /** The debugger asked for it, or the guest has not started yet. */
  | { readonly kind: 'interrupt' | 'start' }
  | { readonly kind: 'step' | 'software' | 'hardware' }
  | { readonly kind: 'watch'; readonly type: WatchKind; readonly address: bigint };

export interface GuestStop {
  readonly vcpu: Vcpu;
  readonly reason: StopReason;
}

/** What a vCPU is to do; those without one stay out of the guest. */
export interface Go {
  readonly kind: 'continue' | 'step';
  readonly range?: readonly [start: bigint, end: bigint];
}

/** What whoever is attached wants to hear. */
export interface DebugListener {
  /** Not for a stop that was asked for. */
  onStop(stop: GuestStop): void;
  onEnd(exitCode: number): void;
}

/** The watch looks again after this time, should a vCPU end without a stop. */
const RECHECK_MS = 1000;

export class GuestDebugger {
  #vm: VirtualMachine;
  #breakpoints: Breakpoints;
  /** Bits of GUESTDBG that this KVM knows. */
  readonly #flags: number;
  #listener: DebugListener | undefined;
  #isRunning = true;
  /** Out of the guest for the debugger, not for a user. */
  #held = new Set<Vcpu>();
  #goes = new Map<Vcpu, Go>();
  /** Stops of other vCPUs at the same time, which would not happen again. */
  #pending: GuestStop[] = [];
  #applied = new Map<Vcpu, GuestDebug>();

  constructor(vm: VirtualMachine) {
    this.#vm = vm;
    this.#breakpoints = new Breakpoints(vm.machine.memory);
    this.#flags = guestDebugFlags(vm.machine.resources.kvm);
  }

  get vm(): VirtualMachine {
    return this.#vm;
  }

  get isAttached(): boolean {
    return this.#listener !== undefined;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Whether the debugger keeps vCPUs out of the guest now. */
  get isStopped(): boolean {
    return !this.#isRunning;
  }

  /** Keeps a machine that is not started yet from its first instruction. */
  holdAtStart(): void {
    this.#held = new Set(holdBeforeStart(this.#vm.vcpus));
    this.#isRunning = false;
  }

  /**
   * Stops the guest. Throws VoltError 'usage' if another debugger is attached, 'host' if this KVM cannot debug guests
   * and 'internal' if a vCPU does not leave the guest.
   */
  async attach(listener: DebugListener): Promise<void> {
    if (this.#listener) {
      throw new VoltError(
        'usage',
        'Cannot attach gdb: another gdb is attached to this guest; detach that one first',
      );
    }
    if (this.#flags === 0) {
      throw new VoltError('host', "Cannot attach gdb: this host's KVM cannot debug guests; use another host");
    }
    this.#listener = listener;
    try {
      await this.#halt();
    } catch (error) {
      this.#listener = undefined;
      throw error;
    }
    this.#begin();
  }

  /** Removes all breakpoints and lets the guest run. */
  async detach(): Promise<void> {
    if (!this.#listener) return;
    if (this.#isRunning) await this.#halt();
    this.#listener = undefined;
    const { words } = this.#vm.shared;
    this.#breakpoints.removeAll();
    this.#vm.machine.vcpus.onPlug = undefined;
    for (const vcpu of this.#vm.vcpus) this.#apply(vcpu, NO_GUEST_DEBUG);
    Atomics.store(words, VM_WORD.debugger, 0);
    Atomics.notify(words, VM_WORD.debugStops);
    this.#letGo(new Map([...this.#held].map((vcpu) => [vcpu, { kind: 'continue' }])));
    this.#applied.clear();
  }

  /** The guest has reset itself: its next machine stops before its first instruction. Call it before that starts. */
  attachMachine(vm: VirtualMachine): void {
    this.#vm = vm;
    this.#breakpoints = new Breakpoints(vm.machine.memory);
    this.#applied.clear();
    this.#pending = [];
    this.#held.clear();
    this.#isRunning = true;
    if (!this.#listener) return;
    this.holdAtStart();
    this.#begin();
    void this.#reportStart();
  }

  guestEnded(exitCode: number): void {
    const listener = this.#listener;
    this.#listener = undefined;
    Atomics.notify(this.#vm.shared.words, VM_WORD.debugStops);
    listener?.onEnd(exitCode);
  }

  /** Stops the guest. A vCPU that stopped at the same time by itself is preferred to vCPU 0. */
  async interrupt(): Promise<GuestStop | undefined> {
    if (!this.#isRunning) return undefined;
    await this.#halt();
    return this.#pending.shift() ?? { vcpu: this.#bsp, reason: { kind: 'interrupt' } };
  }

  /** Lets vCPUs go on. Returns a stop if there is one still to be told, and lets none go on then. */
  resume(goes: ReadonlyMap<Vcpu, Go>): GuestStop | undefined {
    const stop = this.#pending.shift();
    if (stop) return stop;
    const base = this.#breakpoints.guestDebug;
    for (const vcpu of this.#vm.vcpus) {
      const isStep = goes.get(vcpu)?.kind === 'step';
      this.#apply(vcpu, isStep ? this.#withStep(base) : base);
    }
    this.#letGo(goes);
    return undefined;
  }

  /** False where the address has no RAM and no debug register is free. */
  insert(vcpu: Vcpu, type: BreakpointKind, address: bigint, bytes: number): boolean {
    const physical = type === 'software' ? this.#physicalOf(vcpu, address) : undefined;
    return this.#breakpoints.insert(type, address, bytes, physical);
  }

  remove(type: BreakpointKind, address: bigint, bytes: number): void {
    this.#breakpoints.remove(type, address, bytes);
  }

  readMemory({ kvm }: Vcpu, address: bigint, bytes: number): Uint8Array {
    const { memory } = this.#vm.machine;
    return readLinear(memory, pagingOf(readSregs(kvm.fd)), address, bytes, this.#breakpoints.hide);
  }

  writeMemory({ kvm }: Vcpu, address: bigint, data: Uint8Array): boolean {
    const { memory } = this.#vm.machine;
    return writeLinear(memory, pagingOf(readSregs(kvm.fd)), address, data, this.#breakpoints.keep);
  }

  /** The physical address behind a linear one of this vCPU. */
  translate({ kvm }: Vcpu, address: bigint): number | undefined {
    return physicalOf(this.#vm.machine.memory, pagingOf(readSregs(kvm.fd)), address);
  }

  get #bsp(): Vcpu {
    const { vcpus, config } = this.#vm;
    return vcpus.find(({ index }) => index === config.bootCpu) ?? vcpus[0]!;
  }

  #begin(): void {
    const vm = this.#vm;
    Atomics.store(vm.shared.words, VM_WORD.debugger, 1);
    // Its INT3s must not reach the guest.
    vm.machine.vcpus.onPlug = (vcpu) => this.#apply(vcpu, this.#breakpoints.guestDebug);
    void this.#watch(vm);
  }

  async #watch(vm: VirtualMachine): Promise<void> {
    const { words } = vm.shared;
    while (this.#listener && this.#vm === vm) {
      const seen = Atomics.load(words, VM_WORD.debugStops);
      // One fails where a vCPU waits for a reader of its console: it is looked at again.
      await this.#takeStops().catch(() => {});
      const wait = Atomics.waitAsync(words, VM_WORD.debugStops, seen, RECHECK_MS);
      if (wait.async) await wait.value;
    }
  }

  /** Looks at the vCPUs that have stopped by themselves. */
  async #takeStops(): Promise<void> {
    if (!this.#isRunning) return;
    const stopped = this.#vm.vcpus.filter(hasStopped);
    let isStop = false;
    await this.#vm.vcpuQueue.run(async () => {
      // They are about to be out of the guest.
      await pauseVcpus(stopped);
      for (const vcpu of stopped) isStop = !this.#goOnAlone(vcpu) || isStop;
    });
    if (!isStop || !this.#isRunning) return;
    await this.#halt();
    const stop = this.#pending.shift();
    if (stop) this.#report(stop);
  }

  /** Lets a vCPU go on whose stop is not the debugger's: the guest's own exception, or a step inside its range. */
  #goOnAlone(vcpu: Vcpu): boolean {
    const base = this.#breakpoints.guestDebug;
    const go = this.#goes.get(vcpu);
    const debug = go?.kind === 'step' ? this.#withStep(base) : base;
    const reason = this.#reasonOf(vcpu);
    if (typeof reason === 'number') {
      setGuestDebug(vcpu.kvm.fd, { ...debug, control: debug.control | GUESTDBG.enable | reason });
      this.#applied.delete(vcpu);
    } else if (reason.kind !== 'step' || !isIn(go?.range, pcOf(vcpu))) return false;
    else if (debug.control !== 0) setGuestDebug(vcpu.kvm.fd, debug);
    runOn(vcpu);
    return true;
  }

  /** Why it stopped; a bit of GUESTDBG for an exception that the guest is to get. */
  #reasonOf(vcpu: Vcpu): StopReason | number {
    const { words, kvm } = vcpu;
    const isEmulation = Atomics.load(words, VCPU_WORD.debugStop) === DEBUG_STOP.emulation;
    const { exception, pc, dr6 } = isEmulation
      ? { exception: EXCEPTION.breakpoint, pc: pcOf(vcpu), dr6: 0n }
      : readDebugExit(new DataView(kvm.runPage.view(0, kvm.runPage.bytes)));
    if (exception === EXCEPTION.breakpoint)
      return this.#breakpoints.hasSoftware(pc) ? { kind: 'software' } : GUESTDBG.injectBp;
    const asked = this.#breakpoints.inRegisters(dr6);
    if (asked) {
      const { type, address } = asked;
      return type === 'software' || type === 'hardware' ? { kind: type } : { kind: 'watch', type, address };
    }
    const isStep = this.#goes.get(vcpu)?.kind === 'step';
    return isStep && (dr6 & DR6_STEP) !== 0n ? { kind: 'step' } : GUESTDBG.injectDb;
  }

  /** Takes all vCPUs out of the guest, and notes the stops of those that had stopped by themselves. */
  async #halt(): Promise<void> {
    await this.#vm.vcpuQueue.run(async () => {
      const { vcpus } = this.#vm;
      // By the command: a thread that was told to go on a moment ago may not have left its pause.
      const ours = vcpus.filter((vcpu) => {
        const command = Atomics.load(vcpu.words, VCPU_WORD.command);
        return this.#held.has(vcpu) || hasStopped(vcpu) || command === VCPU_COMMAND.run;
      });
      await pauseVcpus(vcpus);
      this.#isRunning = false;
      this.#held = new Set(ours);
    });
    const stopped = this.#vm.vcpus.filter(hasStopped);
    for (const vcpu of stopped) {
      const reason = this.#reasonOf(vcpu);
      if (typeof reason === 'number') {
        // Delivered when the vCPU goes on.
        const base = this.#breakpoints.guestDebug;
        setGuestDebug(vcpu.kvm.fd, { ...base, control: base.control | GUESTDBG.enable | reason });
        this.#applied.set(vcpu, base);
      } else this.#pending.push({ vcpu, reason });
      Atomics.store(vcpu.words, VCPU_WORD.debugStop, DEBUG_STOP.none);
    }
    // A breakpoint is hit again when its vCPU goes on; a watchpoint or a step is not.
    const [first, ...others] = this.#pending;
    this.#pending = [
      ...(first ? [first] : []),
      ...others.filter(({ reason }) => reason.kind === 'watch' || reason.kind === 'step'),
    ];
  }

  /** Once the threads of its vCPUs have come up. */
  async #reportStart(): Promise<void> {
    await this.#halt().catch(() => {});
    this.#report({ vcpu: this.#bsp, reason: { kind: 'start' } });
  }

  #report(stop: GuestStop): void {
    this.#listener?.onStop(stop);
  }

  #letGo(goes: ReadonlyMap<Vcpu, Go>): void {
    this.#goes = new Map(goes);
    this.#isRunning = true;
    for (const vcpu of [...this.#held].filter((each) => goes.has(each))) {
      this.#held.delete(vcpu);
      runOn(vcpu);
    }
  }

  #withStep(base: GuestDebug): GuestDebug {
    const quiet = this.#flags & GUESTDBG.blockInterrupts;
    return { ...base, control: base.control | GUESTDBG.enable | GUESTDBG.singleStep | quiet };
  }

  /** Steps are set each time: KVM notes where they begin. */
  #apply(vcpu: Vcpu, debug: GuestDebug): void {
    const before = this.#applied.get(vcpu) ?? NO_GUEST_DEBUG;
    const isStep = (debug.control & GUESTDBG.singleStep) !== 0;
    if (!isStep && isSame(before, debug)) return;
    setGuestDebug(vcpu.kvm.fd, debug);
    this.#applied.set(vcpu, debug);
  }

  /** Where vCPU `first` or any other has `address` mapped: in user mode Linux may not have its kernel's code mapped. */
  #physicalOf(first: Vcpu, address: bigint): number | undefined {
    for (const vcpu of [first, ...this.#vm.vcpus]) {
      const physical = this.translate(vcpu, address);
      if (physical !== undefined) return physical;
    }
    return undefined;
  }
}

function hasStopped({ words }: Vcpu): boolean {
  return Atomics.load(words, VCPU_WORD.debugStop) !== DEBUG_STOP.none;
}

function pcOf({ kvm }: Vcpu): bigint {
  return linearRip(readBlocks(kvm.fd));
}

function isIn(range: Go['range'], pc: bigint): boolean {
  return range !== undefined && pc >= range[0] && pc < range[1];
}

/** Not `resumeVcpus`, which waits until the vCPU is seen in the guest: a step is over sooner. */
function runOn(vcpu: Vcpu): void {
  Atomics.store(vcpu.words, VCPU_WORD.debugStop, DEBUG_STOP.none);
  releasePaused(vcpu);
}

function isSame(a: GuestDebug, b: GuestDebug): boolean {
  return (
    a.control === b.control &&
    a.dr7 === b.dr7 &&
    a.addresses.length === b.addresses.length &&
    a.addresses.every((address, i) => address === b.addresses[i])
  );
}

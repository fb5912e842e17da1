/** Controls a running VM, for the control socket and for programs that embed Volt. */
import { readMpState, writeMpState, writeSipiVector } from '../kvm/vcpu.ts';
import { MIB } from '../machine/address.ts';
import { mpStateNumber } from '../smp/vcpu-state.ts';
import { describeDevice } from '../virtio/host/status.ts';
import { VCPU_WORD } from '../vmm/bus/shared-state.ts';
import { pauseVcpus, pinVcpu, resumeVcpus, sampleVcpus, setVcpuNice } from '../vmm/vcpu/control.ts';
import { lifecycleOf, phaseOf } from '../vmm/vcpu/sample.ts';
import type { HungVcpu } from '../vmm/vcpu/hang-watch.ts';
import type { Vcpu } from '../vmm/vcpu/vcpu.ts';
import type { GdbConnection, GdbSession } from '../vmm/debug/gdb-session.ts';
import type { GuestDebugger } from '../vmm/debug/guest-debugger.ts';
import type { SnapshotFiles } from '../vmm/state/snapshot.ts';
import type { VirtualMachine } from '../vmm/virtual-machine.ts';
import type { VmEnd } from '../vmm/vm-end.ts';
import { VoltError } from '../volt-error.ts';
import type { KnownMpState } from '../smp/vcpu-state.ts';
import type {
  BalloonStatus,
  BootTimeline,
  MemoryStatus,
  CallingClient,
  ControlTarget,
  CpuChange,
  DeviceStatus,
  DumpResult,
  IpiRequest,
  PlugRequest,
  PlugResult,
  RegisterSet,
  RunningConfig,
  SnapshotRequest,
  SnapshotResult,
  StuckVcpu,
  TraceResult,
  VcpuStatus,
  VmEvent,
  VmStatus,
} from './control/target.ts';
import { ConsoleHub } from './console-hub.ts';
import { describeVcpuStatus, readRegisterSet, sampledRip } from './vcpu-status.ts';

/** The operations of the control socket. A VM may have several of these. */
export class VmControl implements ControlTarget {
  #vm: VirtualMachine;
  readonly #startedAt = performance.now();
  readonly #listeners = new Set<(event: VmEvent) => void>();
  #hangSeconds: number | undefined;
  #ended = false;
  #console: ConsoleHub | undefined;
  /** Made for the first gdb. */
  #debugger: GuestDebugger | undefined;

  /** Construct it when the VM starts: `uptimeMs` counts from here. */
  constructor(vm: VirtualMachine) {
    this.#vm = vm;
    this.#watchEnd(vm);
  }

  /** Switches to `vm`, the next machine after a reset by the guest. Call it before `vm` starts. */
  attach(vm: VirtualMachine): void {
    this.#vm = vm;
    this.#ended = false;
    this.#debugger?.attachMachine(vm);
    this.#watchEnd(vm);
    if (this.#hangSeconds !== undefined) this.reportHangs(this.#hangSeconds);
    this.#emit({ kind: 'rebooted', atMs: this.#now() });
  }

  #watchEnd(vm: VirtualMachine): void {
    void vm.ended.then((end) => {
      if (end.kind !== 'reset' || vm.config.reboot === 'exit') this.noteEnd(end);
    });
  }

  /**
   * Emits `ended`, unless it was emitted before. Call it for a guest that is not started again after a reset.
   */
  noteEnd({ kind, lines, saved, exitCode }: VmEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#debugger?.guestEnded(exitCode);
    this.#emit({ kind: 'ended', reason: lines[0] ?? saved ?? kind, exitCode, atMs: this.#now() });
  }

  /** Opens the console for clients; the caller hands it the guest's output. */
  openConsole(): ConsoleHub {
    return (this.#console ??= new ConsoleHub((bytes) => this.#vm.sendConsole(bytes)));
  }

  get console(): ConsoleHub | undefined {
    return this.#console;
  }

  async config(): Promise<RunningConfig> {
    const { withAbsolutePaths } = await import('../config/absolute-paths.ts');
    const { completeConfig } = await import('../config/complete-config.ts');
    const { config, devices, resources } = this.#vm.machine;
    const input = devices?.currentInput(config.input) ?? config.input;
    const whole = completeConfig({ ...config, input });
    return { config: withAbsolutePaths(whole, resources.directory) };
  }

  timeline(): BootTimeline {
    const { timeline, shared, config } = this.#vm;
    return { phases: timeline.rows(shared, config.bootCpu), vcpus: timeline.vcpus(shared, config.bootCpu) };
  }

  status(): VmStatus {
    const { config, vcpus } = this.#vm;
    const phases = vcpus.map(({ words }) => phaseOf(words));
    const paused =
      phases.some((phase) => phase === 'paused') &&
      phases.every((phase) => phase === 'paused' || phase === 'stopped');
    return {
      state: this.#ended ? 'stopped' : paused ? 'paused' : 'running',
      pid: process.pid,
      uptimeMs: this.#now(),
      vcpus: vcpus.length,
      maxVcpus: config.maxCpus,
      memoryBytes: config.memoryBytes,
      kernel: config.kernelPath ?? 'embedded',
    };
  }

  vcpus(): readonly VcpuStatus[] {
    const { plan, symbols } = this.#vm;
    return this.#vm.vcpus.map((vcpu) => describeVcpuStatus(vcpu, plan, symbols.describe));
  }

  devices(): readonly DeviceStatus[] {
    return this.#vm.devices.map(describeDevice);
  }

  /**
   * Hotpluggable memory; with `mib`, asks the guest for so much memory in all first. Throws VoltError 'usage' for a
   * machine without any, and for a size that it cannot have.
   */
  memory(mib?: number): MemoryStatus {
    const mem = this.#vm.devices.find((device) => device.mem)?.mem;
    if (!mem) {
      throw new VoltError(
        'usage',
        'Cannot change the memory: this guest has none that can be plugged; start it with --memory SIZE,max=SIZE',
      );
    }
    const baseMib = this.#vm.config.memoryBytes / MIB;
    const { blockMib, totalMib } = mem.status();
    if (mib !== undefined) {
      const most = baseMib + totalMib;
      if (mib < baseMib || mib > most || (mib - baseMib) % blockMib !== 0) {
        throw new VoltError(
          'usage',
          `Cannot change the memory to ${mib} MiB (expected ${baseMib} to ${most} MiB, by steps of ${blockMib} MiB)`,
        );
      }
      mem.resize(mib - baseMib);
    }
    return { baseMib, ...mem.status() };
  }

  /**
   * Status of the balloon; with `mib`, sets the requested size first. Throws VoltError 'usage' for a machine
   * without a balloon, and for a size above its memory.
   */
  balloon(mib?: number): BalloonStatus {
    const balloon = this.#vm.devices.find((device) => device.balloon)?.balloon;
    if (!balloon) {
      throw new VoltError('usage', 'Cannot use the balloon: this guest has none; start it with --balloon');
    }
    if (mib !== undefined) {
      const most = Math.floor(this.#vm.config.memoryBytes / MIB);
      if (mib > most) {
        throw new VoltError('usage', `Cannot inflate the balloon to ${mib} MiB (expected at most ${most})`);
      }
      balloon.resize(mib);
      this.#emit({ kind: 'balloon', mib, atMs: this.#now() });
    }
    return balloon.status();
  }

  /** Pauses the vCPU while its registers are read, unless it is already paused. */
  async registers(index: number): Promise<RegisterSet> {
    const vcpu = this.#vcpu(index);
    return this.#vm.vcpuQueue.run(async () => {
      const wasRunning = phaseOf(vcpu.words) !== 'paused';
      if (wasRunning) await pauseVcpus([vcpu]);
      try {
        return readRegisterSet(vcpu.kvm.fd);
      } finally {
        if (wasRunning) await resumeVcpus([vcpu]);
      }
    });
  }

  async pause(indices?: readonly number[]): Promise<void> {
    const vcpus = this.#select(indices);
    await this.#vm.pause(vcpus);
    this.#emit({ kind: 'paused', vcpus: vcpus.map(({ index }) => index), atMs: this.#now() });
  }

  async resume(indices?: readonly number[]): Promise<void> {
    const vcpus = this.#select(indices);
    if (this.#debugger?.isAttached && this.#debugger.isStopped) {
      throw new VoltError(
        'usage',
        'Cannot resume the guest: gdb has stopped it; continue it there, or detach',
      );
    }
    await this.#vm.resume(vcpus);
    this.#emit({ kind: 'resumed', vcpus: vcpus.map(({ index }) => index), atMs: this.#now() });
  }

  /**
   * KVM_SET_MP_STATE of a vCPU that is paused or not started yet. `vector` is allowed with `sipi-received`
   * only: the vCPU then starts at vector × 0x1000. Throws SyscallError for a state that this host's KVM
   * refuses.
   */
  async setMpState(index: number, state: KnownMpState, vector?: number): Promise<void> {
    const { kvm, words } = this.#vcpu(index);
    checkMpRequest(index, state, vector);
    await this.#vm.vcpuQueue.run(() => {
      const phase = phaseOf(words);
      if (phase !== 'paused' && phase !== 'created') {
        throw new VoltError(
          'usage',
          `Cannot set the MP state of vCPU ${index}: it is ${phase} (expected paused)`,
        );
      }
      if (vector !== undefined) writeSipiVector(kvm.fd, vector);
      writeMpState(kvm.fd, mpStateNumber(state));
      Atomics.store(words, VCPU_WORD.mpState, readMpState(kvm.fd));
    });
    this.#emit({ kind: 'mp-state', vcpu: index, state, atMs: this.#now() });
  }

  stop(): Promise<unknown> {
    return this.#vm.stop();
  }

  /** Samples MP states and RIPs for `vcpus`. */
  async sample(): Promise<void> {
    await sampleVcpus(this.#vm.vcpus);
  }

  /** Presses the power button. Throws VoltError 'usage' if the machine has no ACPI. */
  powerDown(): void {
    this.#checkRunning();
    this.#vm.pressPowerButton();
    this.#emit({ kind: 'powerdown', atMs: this.#now() });
  }

  /**
   * Writes the guest to files that the client opens and puts in their place. Throws VoltError, after which
   * the guest goes on as before.
   */
  async snapshot(request: SnapshotRequest, client: CallingClient): Promise<SnapshotResult> {
    this.#checkRunning();
    if (this.#debugger?.isAttached) {
      throw new VoltError('usage', 'Cannot save the guest: gdb is attached to it; detach it first');
    }
    const { takeSnapshot } = await import('../vmm/state/snapshot.ts');
    const gone = new AbortController();
    const stopWatching = client.onGone(() => gone.abort());
    try {
      return await takeSnapshot(this.#vm, request, {
        open: () => openClientFiles(client),
        commit: async () => void (await client.ask('commit', {}, 0)),
        signal: gone.signal,
        onProgress: (progress) =>
          this.#emit({ kind: 'snapshot', id: request.id, ...progress, atMs: this.#now() }),
      });
    } finally {
      stopWatching();
    }
  }

  /** Writes a core file that the client opens and puts in its place. Throws VoltError; the guest then goes on. */
  async dump(client: CallingClient): Promise<DumpResult> {
    this.#checkRunning();
    if (this.#debugger?.isAttached && this.#debugger.isRunning) {
      throw new VoltError(
        'usage',
        "Cannot dump the guest: gdb's breakpoints are in its memory; interrupt it in gdb, or detach",
      );
    }
    const { dumpGuest } = await import('../vmm/debug/dump.ts');
    const gone = new AbortController();
    const stopWatching = client.onGone(() => gone.abort());
    try {
      return await dumpGuest(this.#vm, {
        open: async () => (await client.ask('send-files', { files: ['core'] }, 1))[0]!,
        commit: async () => void (await client.ask('commit', {}, 0)),
        signal: gone.signal,
        onProgress: (bytes, total) => this.#emit({ kind: 'dump', bytes, total, atMs: this.#now() }),
      });
    } finally {
      stopWatching();
    }
  }

  /** Records the guest to a file that the client opens and puts in its place. Throws VoltError. */
  async trace(seconds: number, client: CallingClient): Promise<TraceResult> {
    this.#checkRunning();
    if (seconds < 1)
      throw new VoltError('usage', 'Cannot trace the guest for 0 seconds (expected 1 to 3600)');
    const { recordTrace } = await import('../vmm/trace/record-trace.ts');
    const gone = new AbortController();
    const stopWatching = client.onGone(() => gone.abort());
    try {
      return await recordTrace(this.#vm, seconds, {
        open: async () => (await client.ask('send-files', { files: ['trace'] }, 1))[0]!,
        commit: async () => void (await client.ask('commit', {}, 0)),
        signal: gone.signal,
      });
    } finally {
      stopWatching();
    }
  }

  /** Stops the guest for a gdb at the other end of `connection`. Throws VoltError; the guest then goes on. */
  async attachGdb(connection: GdbConnection): Promise<GdbSession> {
    this.#checkRunning();
    const { GdbSession: Session } = await import('../vmm/debug/gdb-session.ts');
    return Session.attach(await this.#makeDebugger(), connection);
  }

  /** The guest waits for a gdb before its first instruction. Call it before the guest starts. */
  async holdForGdb(): Promise<void> {
    (await this.#makeDebugger()).holdAtStart();
  }

  async #makeDebugger(): Promise<GuestDebugger> {
    const { GuestDebugger: Debugger } = await import('../vmm/debug/guest-debugger.ts');
    return (this.#debugger ??= new Debugger(this.#vm));
  }

  /** Plugs a PCI device; the client passes its files. Throws VoltError. */
  async plug(request: PlugRequest, client: CallingClient): Promise<PlugResult> {
    this.#checkRunning();
    const hotplug = await this.#vm.pciHotplug();
    const result = await hotplug.plug(request, (files) => client.ask('send-device', { files }, files));
    this.#emit({ kind: 'plugged', id: result.id, atMs: this.#now() });
    return result;
  }

  async unplug(id: string): Promise<PlugResult> {
    this.#checkRunning();
    const result = await (await this.#vm.pciHotplug()).unplug(id);
    this.#emit({ kind: 'unplugged', id, atMs: this.#now() });
    return result;
  }

  async setCpuCount(count: number): Promise<CpuChange> {
    this.#checkRunning();
    const change = await this.#vm.setCpuCount(count);
    this.#emit({ kind: 'cpus', change, atMs: this.#now() });
    return change;
  }

  sendIpi(request: IpiRequest): void {
    this.#checkRunning();
    this.#vm.sendIpi(request);
    this.#emit({ kind: 'ipi', request, atMs: this.#now() });
  }

  /** INIT, then SIPI: starts an AP at vector × 0x1000, in any state. */
  startAp(index: number, vector: number): void {
    const vcpu = this.#vcpu(index);
    if (vcpu.index === this.#vm.plan.bootCpu) {
      throw new VoltError('usage', `Cannot start vCPU ${index}: it is the BSP (expected an AP)`);
    }
    this.sendIpi({ destination: index, mode: 'init' });
    this.sendIpi({ destination: index, mode: 'sipi', vector });
  }

  /** Pins a vCPU's thread to host CPUs. Throws VoltError 'usage' for one that is not online. */
  async setAffinity(index: number, cpus: readonly number[]): Promise<void> {
    const vcpu = this.#vcpu(index);
    await this.#vm.vcpuQueue.run(() => pinVcpu(vcpu, cpus));
    this.#emit({ kind: 'affinity', vcpu: index, cpus, atMs: this.#now() });
  }

  /**
   * Emits `hang` when no vCPU makes progress for this time, once per hang. Call it once, before the guest
   * starts. docs/control.md defines progress.
   */
  reportHangs(seconds: number): void {
    this.#hangSeconds = seconds;
    // Its code is loaded after the guest has started.
    const timer = setTimeout(() => void this.#watch(seconds), (seconds * 1000) / 10);
    timer.unref();
    void this.#vm.ended.then(() => clearTimeout(timer));
  }

  /**
   * Sets the nice value of a vCPU's thread, from -20 (highest priority) to 19. Throws SyscallError if only
   * root may.
   */
  async setNice(index: number, nice: number): Promise<void> {
    const vcpu = this.#vcpu(index);
    await this.#vm.vcpuQueue.run(() => setVcpuNice(vcpu, nice));
    this.#emit({ kind: 'nice', vcpu: index, nice, atMs: this.#now() });
  }

  onEvent(listener: (event: VmEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async #watch(seconds: number): Promise<void> {
    const { HangWatch } = await import('../vmm/vcpu/hang-watch.ts');
    const vm = this.#vm;
    if (this.#ended) return;
    const onHang = (stuck: readonly HungVcpu[]) =>
      this.#emit({
        kind: 'hang',
        seconds,
        vcpus: stuck.map((each) => this.#stuckVcpu(each)),
        atMs: this.#now(),
      });
    const watch = new HangWatch({ vcpus: () => vm.vcpus, shared: vm.shared, seconds, onHang });
    void vm.ended.then(() => watch[Symbol.dispose]());
  }

  #stuckVcpu({ vcpu: { index, words }, why }: HungVcpu): StuckVcpu {
    const { rip = '0x0', ...symbol } = sampledRip(words, this.#vm.symbols.describe);
    return { index, why, state: lifecycleOf(words), rip, ...symbol };
  }

  #select(indices: readonly number[] | undefined): readonly Vcpu[] {
    this.#checkRunning();
    return indices === undefined ? this.#vm.vcpus : [...new Set(indices)].map((index) => this.#vcpu(index));
  }

  #vcpu(index: number): Vcpu {
    this.#checkRunning();
    const { vcpus } = this.#vm;
    const vcpu = vcpus.find((each) => each.index === index);
    if (vcpu) return vcpu;
    throw new VoltError('usage', `Cannot find vCPU ${index} (expected 0 to ${vcpus.at(-1)!.index})`);
  }

  #checkRunning(): void {
    if (this.#ended) throw new VoltError('usage', 'Cannot do that: the guest has ended; start it again');
  }

  #now(): number {
    return performance.now() - this.#startedAt;
  }

  #emit(event: VmEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

async function openClientFiles(client: CallingClient): Promise<SnapshotFiles> {
  const [memory, state] = await client.ask('send-files', { files: ['memory', 'state'] }, 2);
  return { memory: memory!, state: state! };
}

function checkMpRequest(index: number, state: KnownMpState, vector: number | undefined): void {
  const fits = state === 'sipi-received' ? isVector(vector) : vector === undefined;
  if (fits) return;
  const expected = state === 'sipi-received' ? 'a vector from 0 to 255' : 'no vector';
  throw new VoltError(
    'usage',
    `Cannot set the MP state of vCPU ${index} to ${state}: vector is ${vector ?? 'missing'} (expected ${expected})`,
  );
}

function isVector(vector: number | undefined): boolean {
  return Number.isInteger(vector) && vector! >= 0 && vector! <= 255;
}

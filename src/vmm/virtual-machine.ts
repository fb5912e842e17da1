/** One virtual machine, from its start to its end. `machine.ts` makes it; the threads of `vcpu/` run it. */
import type { VmConfig } from '../config/config.ts';
import { installKickHandler } from '../ffi/signal.ts';
import { ACPI_EVENT } from '../machine/ports.ts';
import type { MachinePlan } from '../plan/plan.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import { workerErrorLine } from '../runtime/worker-url.ts';
import type { IpiRequest } from '../smp/ipi.ts';
import type { PciHotplug } from './pci-hotplug.ts';
import type { MachineDevice } from '../virtio/host/device-set.ts';
import type { VirtioReport } from '../virtio/host/worker-start.ts';
import { VoltError } from '../volt-error.ts';
import { raiseBurst, ringDoorbell, VM_WORD, type SharedState } from './bus/shared-state.ts';
import type { GuestSymbols } from './guest-symbols.ts';
import { makeMachine, type Machine, type MachineOptions } from './machine.ts';
import type { ThreadFilters } from './sandbox.ts';
import type { SnapshotOptions } from './state/save-to-directory.ts';
import type { SnapshotResult } from './state/snapshot.ts';
import type { Timeline } from './timeline.ts';
import { pauseVcpus, resumeVcpus } from './vcpu/control.ts';
import { deliverIpi } from './vcpu/deliver-ipi.ts';
import type { CpuChange } from './vcpu/hotplug.ts';
import { readVcpuState } from './vcpu/register-dump.ts';
import type { VcpuMessage } from './vcpu/report.ts';
import type { Vcpu } from './vcpu/vcpu.ts';
import { describeEnd, type VmEnd } from './vm-end.ts';

/** Options of a VM besides its configuration. */
export type VmOptions = Partial<Omit<MachineOptions, 'onVcpuEnd'>>;

/**
 * A virtual machine: `new` makes it, `start` lets it run, `ended` resolves with how it ended, dispose
 * releases everything.
 */
export class VirtualMachine implements Disposable {
  /** All that it is made of. */
  readonly machine: Machine;
  /** Settles once no vCPU runs any more. Never rejects. */
  readonly ended: Promise<VmEnd>;
  /** Orders whatever pauses or resumes vCPUs, so that no caller undoes another's pause. */
  readonly vcpuQueue = new SerialQueue();

  #pciHotplug: PciHotplug | undefined;
  readonly #warn: (line: string) => void;
  readonly #resolveEnded: (end: VmEnd) => void;
  #cause: VcpuMessage | undefined;
  #finished = false;
  #devicesStarted = false;
  #started = false;
  /** Starts the vCPUs of a machine that was started paused. */
  #startVcpus: (() => void) | undefined;
  /** True from `stop` or dispose on: it can start no more. */
  #closed = false;
  #disposed = false;
  #holds = 0;
  readonly #hasTimeline: boolean;

  /**
   * Throws VoltError for a bad image and SyscallError for what the host refuses; nothing is left behind then.
   */
  constructor(config: VmConfig, { timeline = false, warn = () => {}, resources, restored }: VmOptions = {}) {
    this.#warn = warn;
    this.#hasTimeline = timeline;
    const ended = Promise.withResolvers<VmEnd>();
    this.ended = ended.promise;
    this.#resolveEnded = ended.resolve;
    const onVcpuEnd = (message: VcpuMessage) => this.#onVcpuEnd(message);
    this.machine = makeMachine(config, { timeline, warn, resources, restored, onVcpuEnd });
  }

  /**
   * Lets the vCPUs run: the APs first, the BSP when all of them are about to wait for their SIPI. With
   * `filters` each thread of a vCPU or of devices narrows its own system calls before it serves the guest.
   */
  start(filters?: ThreadFilters): void {
    this.startPaused(filters);
    this.#startVcpus?.();
  }

  /** The same for the devices alone: the vCPUs follow with the first `resume`. */
  startPaused(filters?: ThreadFilters): void {
    if (this.#devicesStarted)
      throw new VoltError('usage', 'Cannot start the VM: it was started before; make a new one');
    // Stopped before its start, by an early signal for example: it has ended already.
    if (this.#closed) return;
    this.#devicesStarted = true;
    const { devices, vcpus, hotplug, timeline } = this.machine;
    devices?.start(filters?.device, (report) => this.#onDeviceReport(report));
    this.#startVcpus = () => {
      this.#startVcpus = undefined;
      if (this.#closed) return;
      this.#started = true;
      installKickHandler();
      vcpus.start(filters?.vcpu);
      void this.#watchConsole();
      void hotplug.parkEjected(this.#warn);
      if (this.config.pci && this.config.acpi) void this.#removeEjected();
      timeline.mark('vCPUs told to start');
      if (this.#hasTimeline) void this.#watchBringUp();
    };
  }

  /** Whether the vCPUs have threads; those that were started paused have none. */
  get vcpusStarted(): boolean {
    return this.#started;
  }

  /**
   * Takes vCPUs out of the guest, by default all; those that have ended are left alone. Resolves when they
   * are out.
   */
  pause(vcpus: readonly Vcpu[] = this.vcpus): Promise<void> {
    return this.vcpuQueue.run(async () => {
      if (!this.#startVcpus) await pauseVcpus(vcpus);
    });
  }

  /**
   * Lets paused vCPUs run again, by default all. Resolves when they do. Of a machine that was started paused
   * all of them start.
   */
  resume(vcpus: readonly Vcpu[] = this.vcpus): Promise<void> {
    return this.vcpuQueue.run(async () => {
      if (this.#startVcpus) this.#startVcpus();
      else await resumeVcpus(vcpus);
    });
  }

  /** Ends the guest without asking it. `ended` settles when all vCPUs are out of KVM_RUN. */
  stop(): Promise<VmEnd> {
    this.#closed = true;
    if (this.#started) this.#end({ index: this.config.bootCpu, report: { kind: 'stopped' } });
    else this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
    return this.ended;
  }

  /**
   * Saves the guest to `directory`, which is created if it does not exist and may have an earlier snapshot.
   * For a process that may open files: in the sandbox use the control socket. Throws VoltError, after which
   * the guest goes on and the earlier snapshot is as it was.
   */
  async snapshot(directory: string, options: SnapshotOptions = {}): Promise<SnapshotResult> {
    const { saveToDirectory } = await import('./state/save-to-directory.ts');
    return saveToDirectory(this, directory, options);
  }

  /** Ends the guest, whose vCPUs a snapshot keeps paused. `ended` then says where the snapshot is. */
  endSaved(directory: string, id: string): Promise<VmEnd> {
    this.#closed = true;
    this.#end({ index: this.config.bootCpu, report: { kind: 'saved', directory, id } });
    return this.ended;
  }

  /** Keeps guest RAM mapped until the returned object is disposed of, even if this VM is before. */
  hold(): Disposable {
    this.#holds++;
    const release = () => {
      if (--this.#holds === 0 && this.#disposed) this.machine.owned.dispose();
    };
    return { [Symbol.dispose]: release };
  }

  /** Stops the guest if it runs, and releases everything. May be called again. */
  [Symbol.dispose](): void {
    this.#closed = true;
    const { vcpus, devices, owned } = this.machine;
    if (this.#started) this.#stopVcpus();
    const vcpusStopped = !this.#started || vcpus.waitUntilStopped();
    const devicesStopped = devices?.stop() ?? true;
    vcpus.terminateWorkers();
    // The mappings stay where a thread would not leave: it would crash without them.
    if (vcpusStopped && devicesStopped) {
      this.#disposed = true;
      if (this.#holds === 0) owned.dispose();
    }
    // Of a machine that has not ended so far; otherwise without effect.
    this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
  }

  get config(): VmConfig {
    return this.machine.config;
  }

  get plan(): MachinePlan {
    return this.machine.plan;
  }

  get shared(): SharedState {
    return this.machine.shared;
  }

  get timeline(): Timeline {
    return this.machine.timeline;
  }

  /** Names of the guest's code addresses; read when the first one is needed. */
  get symbols(): GuestSymbols {
    return this.machine.symbols;
  }

  /** vCPUs that are in the machine now, by ascending index. */
  get vcpus(): readonly Vcpu[] {
    return this.machine.vcpus.present;
  }

  /** Of the devices, for the log at level info. */
  get deviceNotes(): readonly string[] {
    return this.machine.devices?.notes ?? [];
  }

  /** Virtio devices, in the order of their addresses. */
  get devices(): readonly MachineDevice[] {
    return this.machine.devices?.devices ?? [];
  }

  /**
   * Plugs or removes vCPUs until `count` are present, and waits for the guest to take or eject them. Throws
   * VoltError 'usage' without room for them and 'guest' when the guest keeps one.
   */
  setCpuCount(count: number): Promise<CpuChange> {
    return this.machine.hotplug.setCount(count);
  }

  /** Plugs and unplugs PCI devices. Its code is loaded after the guest has started. Throws VoltError 'usage'. */
  async pciHotplug(): Promise<PciHotplug> {
    const { PciHotplug: Hotplug } = await import('./pci-hotplug.ts');
    const { shared, devices, acpiEvents, config, resources } = this.machine;
    if (!devices)
      throw new VoltError('usage', 'Cannot plug a device: the guest has no PCI bus; start it with --pci');
    return (this.#pciHotplug ??= new Hotplug({
      shared,
      devices,
      acpiEvents,
      config,
      open: resources.devices,
    }));
  }

  async #removeEjected(): Promise<void> {
    try {
      await (await this.pciHotplug()).removeEjected();
    } catch (error) {
      this.#warn(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * Configuration of the machine that follows when the guest has reset itself: vCPUs that were plugged stay,
   * those that were removed are gone. They are numbered from 0 again, so a guest that ejected one in the
   * middle finds no gap. PCI devices stay in their slots.
   */
  get configAfterReset(): VmConfig {
    const { config, hotplug, devices } = this.machine;
    const changed = devices?.changedConfig;
    // The BSP cannot be removed, whatever its number.
    const cpus = Math.max(hotplug.presentCount, config.bootCpu + 1);
    return changed
      ? { ...config, cpus, ...changed, input: devices!.currentInput(config.input) }
      : { ...config, cpus };
  }

  /** Presses the ACPI power button: a guest that listens shuts itself down. */
  pressPowerButton(): void {
    if (!this.config.acpi) {
      throw new VoltError(
        'usage',
        'Cannot press the power button: the guest has no ACPI; start it without --no-acpi',
      );
    }
    this.machine.acpiEvents.raise(ACPI_EVENT.powerButton);
  }

  /** True while the guest has not read the event: it has no driver, or not yet. */
  get powerButtonPending(): boolean {
    return this.machine.acpiEvents.isPending(ACPI_EVENT.powerButton);
  }

  /** Delivers an interrupt from outside. Throws VoltError 'usage' for a request that makes no sense. */
  sendIpi(request: IpiRequest): void {
    const present = this.vcpus.map(({ index }) => index);
    deliverIpi(this.machine.vm, this.plan, present, request);
  }

  /**
   * Gives bytes to the guest's serial port; returns how many it had room for: none while nobody reads its
   * console.
   */
  sendConsole(bytes: Uint8Array): number {
    return this.machine.console.send(bytes);
  }

  /** Moves console output that KVM still has to the console, as much as there is room for. */
  flushConsole(): void {
    if (!this.#disposed) this.machine.console.flush();
  }

  /** For --timeline, which slows a start down anyway. */
  async #watchBringUp(): Promise<void> {
    const { watchFirstExits } = await import('./vcpu/watch-first-exits.ts');
    watchFirstExits(this.shared, this.machine.vcpus.all, this.config.bootCpu, this.ended);
  }

  #onVcpuEnd(message: VcpuMessage): void {
    if (this.#disposed) return;
    // A stop is the consequence of what another vCPU reports now.
    if (this.#cause?.report.kind === 'stopped' && message.report.kind !== 'stopped') this.#cause = message;
    this.#end(message);
  }

  #onDeviceReport(report: VirtioReport): void {
    switch (report.kind) {
      case 'device-failed':
        // The guest's own mistakes are its affair; what the host refuses is the user's.
        if (report.cause === 'host')
          this.#warn(`device ${report.id} has failed (${report.reason}); the guest goes on without it`);
        return;
      case 'device-message':
        return this.#warn(`${report.id}: ${report.text}`);
      case 'worker-failed':
        return this.#fail(workerErrorLine(report.message));
    }
  }

  async #watchConsole(): Promise<void> {
    const isOver = () => this.#closed || Atomics.load(this.shared.words, VM_WORD.ending) !== 0;
    try {
      await this.machine.console.watch(isOver);
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }

  #fail(message: string): void {
    this.#end({ index: this.config.bootCpu, report: { kind: 'failed', message } });
  }

  /** The first cause is why the VM ends; later ones are its consequences. */
  #end(cause: VcpuMessage): void {
    this.#cause ??= cause;
    this.#stopVcpus();
  }

  #stopVcpus(): void {
    const { words } = this.shared;
    Atomics.store(words, VM_WORD.ending, 1);
    this.machine.vcpus.stop();
    // Whoever waits looks at `ending` next.
    Atomics.notify(words, VM_WORD.transmitTail);
    Atomics.notify(words, VM_WORD.hotplugRequests);
    raiseBurst(words);
    ringDoorbell(words);
    this.#finishIfAllEnded();
  }

  /** However the last vCPU was seen to end: by its report, or by waiting for its thread. */
  #finishIfAllEnded(): void {
    const cause = this.#cause;
    if (!cause || this.#finished || !this.machine.vcpus.allEnded) return;
    this.#finished = true;
    // What the guest wrote before its end belongs on its console and in its files.
    this.flushConsole();
    this.machine.devices?.stop();
    const states = this.machine.vcpus.all.map(({ kvm }) => readVcpuState(kvm.fd));
    this.#resolveEnded(describeEnd(cause.index, cause.report, states, this.config.exitCodeStyle));
  }
}

/**
 * One virtual machine: the only place where files, KVM, guest memory and workers meet.
 *
 * `new` builds everything up to the point where vCPUs could run; `start` lets them run; `ended` settles when the
 * first of them ends the machine, with all others stopped; dispose gives everything back.
 */
import { resetCpuHotplug } from '../chips/cpu-hotplug.ts';
import { resetI8042 } from '../chips/i8042.ts';
import { resetUart, uartReceive } from '../chips/uart.ts';
import { raiseOpenFilesLimit } from '../ffi/limits.ts';
import { installKickHandler } from '../ffi/signal.ts';
import { CAP } from '../kvm/abi.ts';
import { viewCoalescedRing } from '../kvm/coalesced.ts';
import { readTscKhz } from '../kvm/vcpu.ts';
import { IrqLine, type KvmVm } from '../kvm/vm.ts';
import { GSI } from '../machine/irqs.ts';
import { ACPI_EVENT } from '../machine/ports.ts';
import { GuestMemory, type GuestMemoryOptions } from '../memory/guest-memory.ts';
import type { IpiRequest } from '../smp/ipi.ts';
import { VoltError } from '../volt-error.ts';
import { applyEntry, applyLoad, applyWrites } from './apply.ts';
import { createBoard, type Board } from './bus/board.ts';
import { flushWithoutWaiting, watchConsole } from './serial/coalesced-output.ts';
import type { VmConfig } from '../config/config.ts';
import { lockBusUnlessFull } from './serial/ring.ts';
import { parkEjected, setCpuCount, type CpuChange, type HotplugMachine } from './vcpu/hotplug.ts';
import { deliverIpi } from './vcpu/deliver-ipi.ts';
import { checkSymbolsPath, GuestSymbols } from './guest-symbols.ts';
import { openImage, openKernel, type ImageFile } from './image-file.ts';
import { bindNodes } from './node-memory.ts';
import { needsX2apicMode, planImage, planMachine, pmemOf, type MachinePlan } from '../plan/plan.ts';
import { readVcpuState } from './vcpu/register-dump.ts';
import type { ThreadFilters } from './sandbox.ts';
import {
  createSharedState,
  raiseBurst,
  ringDoorbell,
  unlockBus,
  VM_WORD,
  type SharedState,
} from './bus/shared-state.ts';
import { Timeline } from './timeline.ts';
import { SerialQueue } from '../runtime/serial-queue.ts';
import { checkHostCpus, type LiveVcpu } from './vcpu/control.ts';
import type { VcpuMessage } from './vcpu/report.ts';
import { VcpuSet } from './vcpu/set.ts';
import { describeEnd, type VmEnd } from './vm-end.ts';
import type { VirtioReport } from '../virtio/host/worker-start.ts';
import { HostResources } from './host-resources.ts';
import { DeviceSet, type MachineDevice } from '../virtio/host/device-set.ts';
import { workerErrorLine } from '../runtime/worker-url.ts';

/** What a VM may be told beside its configuration. */
export interface VmOptions {
  /** Note when APs start; costs each AP some polling when it wakes up. */
  readonly timeline?: boolean;
  /** What outlives the machine, for the one after the guest's reset; by default it has its own. */
  readonly resources?: HostResources;
  /** Hears what does not stop the guest, a line each, such as symbols that cannot be read. */
  readonly warn?: (line: string) => void;
}

/** A virtual machine: `new` builds it, `start` lets it run, `ended` tells how it ended, dispose gives everything back. */
export class VirtualMachine implements Disposable {
  readonly config: VmConfig;
  readonly plan: MachinePlan;
  readonly shared: SharedState;
  readonly timeline = new Timeline();
  /** Names of the guest's code addresses; nothing is read until somebody asks for one. */
  readonly symbols: GuestSymbols;
  /** Orders whatever pauses or resumes vCPUs, so that no caller undoes another's pause. */
  readonly vcpuQueue = new SerialQueue();
  /** Settles once no vCPU runs any more. Never rejects. */
  readonly ended: Promise<VmEnd>;

  readonly #stack = new DisposableStack();
  readonly #vcpus: VcpuSet;
  readonly #board: Board;
  readonly #vm: KvmVm;
  /** undefined: a machine without virtio devices. */
  readonly #virtio: DeviceSet | undefined;
  readonly #acpiEvent: IrqLine;
  readonly #warn: (line: string) => void;
  readonly #hotplugQueue = new SerialQueue();
  #cause: VcpuMessage | undefined;
  #finished = false;
  #resolveEnded!: (end: VmEnd) => void;
  #started = false;
  #closed = false;
  #disposed = false;

  /** Throws VoltError for a bad image and SyscallError for what the host refuses; nothing is left behind then. */
  constructor(config: VmConfig, options: VmOptions = {}) {
    this.config = config;
    // Before any thread is made: a host CPU that is not there would stop the guest halfway.
    for (const [index, cpus] of config.affinity) checkHostCpus(index, cpus);
    checkOpenFilesLimit(config.maxCpus, config.devices.length);
    if (config.symbolsPath !== undefined) checkSymbolsPath(config.symbolsPath);
    const { warn = () => {} } = options;
    this.#warn = warn;
    this.ended = new Promise((resolve) => (this.#resolveEnded = resolve));
    // Its threads come up beside everything below.
    this.#vcpus = new VcpuSet(options.timeline ? config.cpus : 1);
    try {
      const kernel = this.#stack.use(openKernel(config.kernelPath));
      const initrd = config.initrdPath
        ? this.#stack.use(openImage(config.initrdPath, '--initrd'))
        : undefined;
      const image = planImage(config, kernel, initrd);
      this.timeline.mark('kernel recognised');

      const resources = options.resources ?? this.#stack.use(new HostResources());
      const system = resources.kvm;
      if (config.maxCpus > system.maxVcpus) {
        throw new VoltError(
          'host',
          `Cannot create ${config.maxCpus} vCPUs: this host's KVM allows ${system.maxVcpus} (expected fewer --cpus)`,
        );
      }
      this.#vm = this.#stack.use(system.createVm());
      this.#vm.createInterruptControllers();
      const tscDeadline = system.check(CAP.tscDeadlineTimer) > 0;
      this.plan = planMachine(
        config,
        image,
        { tscDeadline },
        { pmemBytes: pmemOf(config).map((each) => resources.devices.pmemBytes(each)) },
      );
      const { cpus, bootCpu } = this.plan;
      if (needsX2apicMode(this.plan)) this.#vm.useX2apicIds();
      if (bootCpu !== 0) this.#vm.setBootCpu(cpus[bootCpu]!.apicId);
      this.timeline.mark('VM made');

      this.symbols = new GuestSymbols(config, this.plan.boot.protocol, warn);
      const memory = this.#stack.use(new GuestMemory(this.plan.ranges, memoryOptions(config)));
      for (const warning of bindNodes(memory, this.plan.nodeMemory, config.numa)) warn(warning);
      this.#loadMemory(memory, kernel, initrd);
      this.timeline.mark('kernel loaded');

      if (config.devices.length > 0)
        this.#virtio = this.#stack.use(
          new DeviceSet({
            configs: config.devices,
            open: resources.devices,
            pmem: this.plan.pmem,
            vm: this.#vm,
            memory,
          }),
        );

      const present = cpus.slice(0, config.cpus);
      const kvmVcpus = present.map((cpu) => this.#stack.use(this.#vm.createVcpu(cpu.apicId)));
      const tscKhz = readTscKhz(kvmVcpus[0]!.fd);
      const host = { cpuid: system.supportedCpuid(), tscDeadline, tscKhz };
      this.shared = createSharedState(config.maxCpus);
      const { plan, shared } = this;
      const virtio = this.#virtio?.links ?? [];
      const timeline = options.timeline ?? false;
      this.#vcpus.prepare({ config, plan, vm: this.#vm, host, shared, virtio, timeline }, kvmVcpus);
      applyEntry(kvmVcpus[bootCpu]!, this.plan.boot.entry);
      resetUart(this.shared.uart);
      resetI8042(this.shared.i8042);
      resetCpuHotplug(this.shared.cpuHotplug, config.cpus);
      this.#acpiEvent = new IrqLine(this.#vm.fd, GSI.acpiEvent);
      const { runPage } = kvmVcpus[0]!;
      this.#board = createBoard(
        this.shared,
        { vmFd: this.#vm.fd, lowMemoryBytes: this.plan.ranges[0]!.bytes, bootCpu },
        viewCoalescedRing(runPage.view(0, runPage.bytes), this.#vm.ringOffset),
      );
      this.timeline.mark('vCPUs made');
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /** Each thread of a vCPU or of devices lays its filter over itself before it serves the guest. Before `start`. */
  confine({ vcpu, device }: ThreadFilters): void {
    this.#vcpus.confine(vcpu);
    this.#virtio?.confine(device);
  }

  /** Lets the vCPUs run: the APs first, the BSP when all of them are about to wait for their SIPI. */
  start(): void {
    if (this.#started) {
      throw new VoltError('usage', 'Cannot start the VM: it was started before (expected once)');
    }
    // Stopped before its start, by a signal that came early, say: it has ended already.
    if (this.#closed) return;
    this.#started = true;
    installKickHandler();
    this.#virtio?.start((report) => this.#onDeviceReport(report));
    this.#vcpus.start((message) => this.#onReport(message));
    void this.#watchConsole();
    if (this.config.maxCpus > this.config.cpus) void this.#parkEjectedForever();
    this.timeline.mark('vCPUs told to start');
  }

  /** Ends the guest without asking it. `ended` settles when all vCPUs are out of KVM_RUN. */
  stop(): Promise<VmEnd> {
    this.#closed = true;
    if (this.#started) {
      this.#cause ??= { index: this.config.bootCpu, report: { kind: 'stopped' } };
      this.#stopVcpus();
    } else this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
    return this.ended;
  }

  /** What steers the vCPUs that are in the machine now, by ascending index. */
  get vcpus(): readonly LiveVcpu[] {
    return this.#vcpus.present;
  }

  /**
   * Plugs or removes vCPUs until there are `count`, and waits for the guest to take or to give them. Throws
   * VoltError 'usage' without room for them and 'guest' when the guest keeps one.
   */
  setCpuCount(count: number): Promise<CpuChange> {
    return this.#hotplugQueue.run(() => setCpuCount(this.#hotplugMachine(), count));
  }

  /** Presses the power button, as ACPI knows it: a guest that listens shuts itself down. */
  pressPowerButton(): void {
    if (!this.config.acpi) {
      throw new VoltError(
        'usage',
        'Cannot press the power button: the guest has no ACPI (expected it without --no-acpi)',
      );
    }
    this.#raiseAcpiEvent(ACPI_EVENT.powerButton);
  }

  /** Virtio devices, in the order of their places. */
  get devices(): readonly MachineDevice[] {
    return this.#virtio?.devices ?? [];
  }

  /** True while the guest has not looked why it was interrupted: it is not listening, or not yet. */
  get powerButtonUnheard(): boolean {
    return (Atomics.load(this.shared.words, VM_WORD.acpiEvents) & ACPI_EVENT.powerButton) !== 0;
  }

  /** Delivers an interrupt from outside. Throws VoltError 'usage' for a request that makes no sense. */
  sendIpi(request: IpiRequest): void {
    deliverIpi(
      this.#vm,
      this.plan,
      this.vcpus.map(({ index }) => index),
      request,
    );
  }

  /** Gives bytes to the guest's serial port; returns how many it had room for: none while nobody reads its console. */
  sendConsole(bytes: Uint8Array): number {
    if (!lockBusUnlessFull(this.shared)) return 0;
    try {
      return uartReceive(this.#board.uart, bytes);
    } finally {
      unlockBus(this.shared.words);
    }
  }

  /** Stops the guest if it runs, and gives everything back. May be called again. */
  [Symbol.dispose](): void {
    this.#closed = true;
    const vcpusQuiet = !this.#started || this.#waitUntilStopped();
    const quiet = (this.#virtio?.stop() ?? true) && vcpusQuiet;
    this.#vcpus.terminateWorkers();
    // A thread that would not leave still uses its mappings: then they stay, rather than being a crash.
    if (quiet) {
      this.#disposed = true;
      this.#vcpus[Symbol.dispose]();
      this.#stack.dispose();
    }
    // Without an end so far; afterwards this changes nothing.
    this.#resolveEnded(describeEnd(this.config.bootCpu, { kind: 'stopped' }, []));
  }

  #waitUntilStopped(): boolean {
    this.#stopVcpus();
    return this.#vcpus.waitUntilStopped();
  }

  #raiseAcpiEvent(event: number): void {
    Atomics.or(this.shared.words, VM_WORD.acpiEvents, event);
    this.#acpiEvent.set(1);
    this.#acpiEvent.set(0);
  }

  #hotplugMachine(): HotplugMachine {
    const { shared, config, plan } = this;
    return {
      shared,
      present: config.cpus,
      maxCpus: config.maxCpus,
      bootCpu: plan.bootCpu,
      readyVcpu: (index) => this.#vcpus.ready(index, (kvm) => this.#stack.use(kvm)),
      parkVcpu: (index) => this.#vcpus.park(index),
      tellGuest: () => this.#raiseAcpiEvent(ACPI_EVENT.cpuHotplug),
      hasEnded: () => Atomics.load(shared.words, VM_WORD.ending) !== 0,
    };
  }

  async #parkEjectedForever(): Promise<void> {
    const machine = this.#hotplugMachine();
    while (!machine.hasEnded()) {
      const seen = Atomics.load(this.shared.words, VM_WORD.hotplugRequests);
      await parkEjected(machine).catch((error: Error) => this.#warn(error.message));
      const wait = Atomics.waitAsync(this.shared.words, VM_WORD.hotplugRequests, seen);
      if (wait.async) await wait.value;
    }
  }

  #loadMemory(memory: GuestMemory, kernel: ImageFile, initrd: ImageFile | undefined): void {
    const files = { kernel, initrd };
    for (const load of this.plan.loads) applyLoad(memory, load, files[load.file]!);
    applyWrites(memory, this.plan.writes);
    memory.regions.forEach(({ address, bytes, host }, slot) =>
      this.#vm.setMemorySlot(slot, address, bytes, host),
    );
  }

  #onReport({ index, report }: VcpuMessage): void {
    if (this.#disposed || !this.#vcpus.noteEnd(index)) return;
    // The first report tells why the VM ended; what follows is how the others were stopped because of it.
    if (!this.#cause || (this.#cause.report.kind === 'stopped' && report.kind !== 'stopped')) {
      this.#cause = { index, report };
    }
    this.#stopVcpus();
  }

  /** However the last of them was seen to end: by its report, or by whoever waited for it. */
  #finishIfAllEnded(): void {
    if (this.#finished || !this.#cause || !this.#vcpus.allEnded) return;
    this.#finished = true;
    // What the guest wrote before its end is to be on its console and in its files.
    this.flushConsole();
    this.#virtio?.stop();
    const states = this.#vcpus.kvmVcpus.map(({ fd }) => readVcpuState(fd));
    this.#resolveEnded(describeEnd(this.#cause.index, this.#cause.report, states));
  }

  #onDeviceReport(report: VirtioReport): void {
    // A device that gave up on its driver is the guest's affair; a worker that failed is not.
    if (report.kind === 'device-failed') {
      if (report.cause === 'host')
        this.#warn(`device ${report.id} has failed (${report.reason}); the guest goes on without it`);
      return;
    }
    if (report.kind === 'device-message') return this.#warn(`${report.id}: ${report.text}`);
    this.#fail(workerErrorLine(report.message));
  }

  async #watchConsole(): Promise<void> {
    const isOver = () => this.#closed || Atomics.load(this.shared.words, VM_WORD.ending) !== 0;
    try {
      await watchConsole(this.#board, this.#vm.fd, isOver);
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }

  /** Hands what KVM still has of the console's output to the console, as much as there is room for. */
  flushConsole(): void {
    if (this.#disposed) return;
    try {
      flushWithoutWaiting(this.#board);
    } catch {
      // KVM may have lost the VM, and its end is being told already.
    }
  }

  #fail(message: string): void {
    this.#cause ??= { index: this.config.bootCpu, report: { kind: 'failed', message } };
    this.#stopVcpus();
  }

  #stopVcpus(): void {
    Atomics.store(this.shared.words, VM_WORD.ending, 1);
    this.#vcpus.stop();
    Atomics.notify(this.shared.words, VM_WORD.transmitTail);
    Atomics.notify(this.shared.words, VM_WORD.hotplugRequests);
    raiseBurst(this.shared.words);
    ringDoorbell(this.shared.words);
    this.#finishIfAllEnded();
  }
}

/** A device that another process serves needs RAM that both can map. */
function memoryOptions({ hugepages, devices }: VmConfig): GuestMemoryOptions {
  return { hugepages, shared: devices.some(({ kind }) => kind === 'share') };
}

/** A vCPU takes KVM's descriptor and two of its Worker's event loop. */
const FILES_PER_VCPU = 3;
/** A device takes its files, two eventfds and one for each queue; its worker four. */
const FILES_PER_DEVICE = 24;
const FILES_BESIDES = 32;

/** The runtime aborts the process when a Worker finds no descriptor left. */
function checkOpenFilesLimit(cpus: number, devices: number): void {
  const needed = cpus * FILES_PER_VCPU + devices * FILES_PER_DEVICE + FILES_BESIDES;
  const limit = raiseOpenFilesLimit(needed);
  if (limit >= needed) return;
  throw new VoltError(
    'host',
    `Cannot start ${cpus} vCPUs: this process may open ${limit} files (expected ${needed}; raise it with ulimit -n)`,
  );
}

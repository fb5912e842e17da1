/**
 * Makes a machine of a configuration: opens its files, plans it, creates it in KVM, loads the guest. The
 * machine that comes out is complete, and everything that it is made of is reachable from it; it runs once
 * its vCPUs are started.
 */
import { resetCpuHotplug } from '../chips/cpu-hotplug.ts';
import { resetI8042 } from '../chips/i8042.ts';
import { resetUart } from '../chips/uart.ts';
import type { VmConfig } from '../config/config.ts';
import {
  applyCpuidTemplate,
  checkTemplateHost,
  CpuTemplateError,
  type CpuTemplate,
} from '../cpuid/cpu-template.ts';
import { CAP } from '../kvm/abi.ts';
import { viewCoalescedRing } from '../kvm/coalesced.ts';
import type { KvmSystem } from '../kvm/system.ts';
import type { KvmVm } from '../kvm/vm.ts';
import type { CpuidEntry } from '../machine/cpuid-entry.ts';
import { MIB } from '../machine/address.ts';
import { GuestMemory } from '../memory/guest-memory.ts';
import {
  needsX2apicMode,
  planImage,
  planMachine,
  planRestored,
  pmemOf,
  type MachinePlan,
} from '../plan/plan.ts';
import { DeviceSet } from '../virtio/host/device-set.ts';
import { hotplugRange } from '../virtio/mem/shape.ts';
import { sandboxNeedsOf } from '../virtio/host/specs.ts';
import { VoltError } from '../volt-error.ts';
import { AcpiEvents } from './acpi-events.ts';
import { applyEntry, applyLoad, applyWrites } from './apply.ts';
import { createBoard } from './bus/board.ts';
import { createSharedState, VM_WORD, type SharedState } from './bus/shared-state.ts';
import { HostResources } from './host-resources.ts';
import { checkSymbolsPath, GuestSymbols } from './guest-symbols.ts';
import { openImage, openKernel, type ImageFile } from './image-file.ts';
import { bindNodes } from './node-memory.ts';
import { ensureOpenFiles } from './open-files.ts';
import type { RestoredSource } from './restored-source.ts';
import { GuestConsole } from './serial/guest-console.ts';
import { Timeline } from './timeline.ts';
import { checkHostCpus } from './vcpu/control.ts';
import { VcpuFactory } from './vcpu/factory.ts';
import { CpuHotplug } from './vcpu/hotplug.ts';
import type { VcpuMessage } from './vcpu/report.ts';
import { VcpuSet } from './vcpu/set.ts';
import { WorkerPool } from './vcpu/worker-pool.ts';

/** Threads that read memory which cannot be mapped from its file. */
const LOAD_THREADS = 4;

export interface MachineOptions {
  /** Note when APs start, which costs each AP some polling when it wakes up. */
  readonly timeline: boolean;
  /** What outlives the machine, for the one after the guest's reset; undefined: it has its own. */
  readonly resources: HostResources | undefined;
  /** Called with a line for each thing that is wrong but does not stop the guest. */
  readonly warn: (line: string) => void;
  /** What the machine continues from; undefined: it boots. */
  readonly restored: RestoredSource | undefined;
  /** Called when a vCPU has ended, with the reason; not before the vCPUs are started. */
  readonly onVcpuEnd: (message: VcpuMessage) => void;
}

/** All that one virtual machine is made of. */
export interface Machine {
  readonly config: VmConfig;
  readonly plan: MachinePlan;
  readonly vm: KvmVm;
  readonly memory: GuestMemory;
  /** State of the board's devices, of the console and of each vCPU's thread. */
  readonly shared: SharedState;
  readonly vcpus: VcpuSet;
  readonly hotplug: CpuHotplug;
  /** undefined: no virtio devices. */
  readonly devices: DeviceSet | undefined;
  readonly console: GuestConsole;
  readonly acpiEvents: AcpiEvents;
  readonly symbols: GuestSymbols;
  readonly timeline: Timeline;
  readonly resources: HostResources;
  /** Owns the above: disposed of when no thread uses any of it. */
  readonly owned: DisposableStack;
}

/**
 * Throws VoltError for a bad image or what the host lacks, SyscallError for what it refuses; nothing is left
 * then.
 */
export function makeMachine(config: VmConfig, options: MachineOptions): Machine {
  checkHost(config);
  using owned = new DisposableStack();
  const timeline = new Timeline();
  // The BSP's Worker takes the longest to come up: it does so beside everything below.
  const workers = owned.use(new WorkerPool(options.timeline ? config.cpus : 1));
  const { restored } = options;
  const images = restored ? undefined : owned.use(openImages(config));
  const image = images && planImage(config, images.kernel, images.initrd);
  for (const warning of image?.boot.warnings ?? []) options.warn(warning);
  if (image) timeline.mark('kernel recognised');

  const resources = options.resources ?? owned.use(new HostResources());
  const system = resources.kvm;
  checkVcpuLimit(config.maxCpus, system.maxVcpus);
  const vm = owned.use(system.createVm());
  vm.createInterruptControllers();
  const tscDeadline = system.check(CAP.tscDeadlineTimer) > 0;
  const files = { pmemBytes: pmemOf(config).map((device) => resources.devices.pmemBytes(device)) };
  const { vmGenerationId } = resources;
  const plan = image
    ? planMachine(config, image, { tscDeadline, vmGenerationId }, files)
    : planRestored(config, restored!.protocol, files);
  const { cpus, bootCpu } = plan;
  if (needsX2apicMode(plan)) vm.enableX2apicIds();
  if (bootCpu !== 0) vm.setBootCpu(cpus[bootCpu]!.apicId);
  timeline.mark('VM made');

  const memory = owned.use(
    new GuestMemory(plan.hotplug ? [...plan.ranges, hotplugRange(plan.hotplug)] : plan.ranges, {
      ...memoryOptions(config),
      source: restored?.openMemory(),
      hotplugSlotBytes: plan.hotplug && plan.hotplug.slotMib * MIB,
    }),
  );
  for (const warning of bindNodes(memory, plan.nodeMemory, config.numa)) options.warn(warning);
  if (images) loadMemory(memory, plan, images);
  memory.source?.load(LOAD_THREADS);
  memory.withSlots((slots) =>
    slots.forEach(({ slot, address, bytes, host }) => vm.setMemorySlot(slot, address, bytes, host)),
  );
  timeline.mark('kernel loaded');

  const shared = createSharedState(config.maxCpus);
  const isEnding = () => Atomics.load(shared.words, VM_WORD.ending) !== 0;
  const devices =
    config.devices.length > 0 || config.pci
      ? owned.use(
          new DeviceSet({
            ...{
              configs: config.devices,
              open: resources.devices,
              pmem: plan.pmem,
              hotplug: plan.hotplug,
              vm,
              memory,
            },
            restored: restored?.devices,
            restoredPci: restored?.pci,
            pci: config.pci,
            isEnding,
          }),
        )
      : undefined;
  resetChips(shared, config.cpus);
  const link = {
    buffer: shared.buffer,
    vcpuCount: shared.vcpuCount,
    vmFd: vm.fd,
    coalescedRingOffset: vm.coalescedRingOffset,
    lowMemoryBytes: plan.ranges[0]!.bytes,
    virtio: devices?.links ?? [],
    pci: devices?.pciLink,
    bootCpu,
    apsAtStart: (restored?.runningCount ?? config.cpus) - 1,
    timeline: options.timeline,
  };
  restored?.applyClock(vm);
  // A restored guest has the table of its snapshot.
  const template = restored ? undefined : config.cpuTemplate;
  const supported = system.supportedCpuid();
  const host = { cpuid: template ? applyTemplate(template, supported, system) : supported, tscDeadline };
  const { scheduling } = resources;
  const msrs = config.cpuTemplate?.msrs ?? [];
  const factory = owned.use(
    new VcpuFactory({ vm, plan, shared, host, scheduling, affinity: config.affinity, restored, msrs }),
  );
  const vcpus = new VcpuSet({
    ...{ vm, factory, link, shared, workers },
    created: restored?.vcpuCount ?? config.cpus,
    onEnd: options.onVcpuEnd,
  });
  owned.use(vcpus);
  if (plan.boot.entry) applyEntry(vcpus.all[bootCpu]!.kvm, plan.boot.entry);
  const acpiEvents = new AcpiEvents(vm.fd, shared.words);
  const { runPage } = vcpus.all[0]!.kvm;
  const ring = viewCoalescedRing(runPage.view(0, runPage.bytes), vm.coalescedRingOffset);
  restored?.finish({ vm, shared, vcpus: vcpus.all, memory, acpiEvents, config, vmGenerationId });
  timeline.mark('vCPUs made');
  return {
    ...{ config, plan, vm, memory, shared, vcpus, devices, acpiEvents, timeline, resources },
    hotplug: new CpuHotplug({ shared, vcpus, acpiEvents, config }),
    console: new GuestConsole(createBoard(shared, link, ring), vm.fd),
    symbols: new GuestSymbols(config, plan.boot.protocol, options.warn),
    owned: owned.move(),
  };
}

/** Throws CpuTemplateError if this host cannot have the template. */
function applyTemplate(
  template: CpuTemplate,
  supported: readonly CpuidEntry[],
  system: KvmSystem,
): readonly CpuidEntry[] {
  checkTemplateHost(template, supported);
  for (const capability of template.capabilities)
    if (system.check(capability) <= 0)
      throw new CpuTemplateError('capability', `KVM lacks capability ${capability}`, [capability]);
  return applyCpuidTemplate(template, supported);
}

/** Before any thread is made: a host CPU that does not exist would stop the guest halfway. */
function checkHost({ affinity, maxCpus, devices, pci, symbolsPath, fileNames }: VmConfig): void {
  for (const [index, cpus] of affinity) checkHostCpus(index, cpus);
  ensureOpenFiles(maxCpus, devices.length, pci !== undefined);
  if (symbolsPath !== undefined) checkSymbolsPath(symbolsPath, fileNames.symbols);
}

function checkVcpuLimit(wanted: number, limit: number): void {
  if (wanted <= limit) return;
  throw new VoltError(
    'host',
    `Cannot create ${wanted} vCPUs: this host's KVM allows ${limit} (expected fewer --cpus)`,
  );
}

/** A device that another process serves needs RAM that both can map. */
function memoryOptions({ hugepages, devices }: VmConfig) {
  return { hugepages, shared: sandboxNeedsOf(devices).has('share') };
}

interface OpenImages extends Disposable {
  readonly kernel: ImageFile;
  readonly initrd: ImageFile | undefined;
}

function openImages({ kernelPath, initrdPath, fileNames }: VmConfig): OpenImages {
  using opened = new DisposableStack();
  const kernel = opened.use(openKernel(kernelPath, fileNames.kernel));
  const initrd = initrdPath ? opened.use(openImage(initrdPath, fileNames.initrd)) : undefined;
  const files = opened.move();
  return { kernel, initrd, [Symbol.dispose]: () => files.dispose() };
}

function loadMemory(memory: GuestMemory, plan: MachinePlan, files: OpenImages): void {
  for (const load of plan.loads) applyLoad(memory, load, files[load.file]!);
  applyWrites(memory, plan.writes);
}

function resetChips({ uart, i8042, cpuHotplug }: SharedState, presentCpus: number): void {
  resetUart(uart);
  resetI8042(i8042);
  resetCpuHotplug(cpuHotplug, presentCpus);
}

import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { INDEXED } from '../../../src/cpuid/leaf.ts';
import * as abi from '../../../src/kvm/abi.ts';
import { IOCTL } from '../../../src/kvm/abi.ts';
import { hasKvmHeaders, readKvmHeaders } from './kvm-headers.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

/** What strace prints for these calls. */
const WELL_KNOWN: Readonly<Record<keyof typeof IOCTL, number>> = {
  getApiVersion: 0xae00,
  createVm: 0xae01,
  checkExtension: 0xae03,
  getVcpuMmapSize: 0xae04,
  getSupportedCpuid: 0xc008_ae05,
  createVcpu: 0xae41,
  getDirtyLog: 0x4010_ae42,
  setUserMemoryRegion: 0x4020_ae46,
  setTssAddr: 0xae47,
  setIdentityMapAddr: 0x4008_ae48,
  createIrqchip: 0xae60,
  irqLine: 0x4008_ae61,
  registerCoalesced: 0x4010_ae67,
  unregisterCoalesced: 0x4010_ae68,
  setGsiRouting: 0x4008_ae6a,
  irqfd: 0x4020_ae76,
  createPit2: 0x4040_ae77,
  setBootCpuId: 0xae78,
  getPitState: 0x8070_ae9f,
  setPitState: 0x4070_aea0,
  ioeventfd: 0x4040_ae79,
  run: 0xae80,
  getRegs: 0x8090_ae81,
  setRegs: 0x4090_ae82,
  getSregs: 0x8138_ae83,
  setSregs: 0x4138_ae84,
  setMsrs: 0x4008_ae89,
  setFpu: 0x41a0_ae8d,
  getLapic: 0x8400_ae8e,
  setLapic: 0x4400_ae8f,
  setCpuid2: 0x4008_ae90,
  getMpState: 0x8004_ae98,
  setMpState: 0x4004_ae99,
  getVcpuEvents: 0x8040_ae9f,
  setVcpuEvents: 0x4040_aea0,
  getTscKhz: 0xaea3,
  enableCap: 0x4068_aea3,
  signalMsi: 0x4020_aea5,
  kvmclockCtrl: 0xaead,
};

test.each(Object.entries(WELL_KNOWN))('ioctl %s is %p', (name, number) => {
  expect(IOCTL[name as keyof typeof IOCTL]).toBe(number);
});

test('every ioctl has its well-known number here', () => {
  expect(Object.keys(IOCTL).sort()).toEqual(Object.keys(WELL_KNOWN).sort());
});

/** C name of each field that differs from ours in more than its underscores. */
const REGS_FIELDS = Object.keys(abi.REGS).filter((name) => name !== 'size');
const SREGS_RENAMED: Readonly<Record<string, string>> = {
  apicBase: 'apic_base',
  interruptBitmap: 'interrupt_bitmap',
};

/** Each row: a C expression and what Volt has for it. */
const ROWS: readonly (readonly [string, number])[] = [
  ...structRows('kvm_regs', abi.REGS, Object.fromEntries(REGS_FIELDS.map((name) => [name, name]))),
  ...structRows('kvm_segment', abi.SEGMENT),
  ...structRows('kvm_dtable', abi.DTABLE),
  ...structRows('kvm_sregs', abi.SREGS, SREGS_RENAMED),
  ...structRows('kvm_coalesced_mmio_zone', abi.COALESCED_ZONE, { address: 'addr', bytes: 'size' }),
  ...structRows('kvm_irqfd', abi.IRQFD, { resampleFd: 'resamplefd' }),
  ...structRows('kvm_ioeventfd', abi.IOEVENTFD),
  ...structRows('kvm_irq_routing', abi.IRQ_ROUTING, { count: 'nr' }),
  ...structRows('kvm_irq_routing_entry', abi.IRQ_ROUTING_ENTRY, {
    irqchip: 'u.irqchip.irqchip',
    pin: 'u.irqchip.pin',
    addressLow: 'u.msi.address_lo',
    addressHigh: 'u.msi.address_hi',
    data: 'u.msi.data',
  }),
  ['KVM_IRQ_ROUTING_IRQCHIP', abi.IRQ_ROUTING_TYPE.irqchip],
  ['KVM_IRQ_ROUTING_MSI', abi.IRQ_ROUTING_TYPE.msi],
  ['KVM_IRQFD_FLAG_DEASSIGN', abi.IRQFD_FLAG.deassign],
  ['KVM_IRQFD_FLAG_RESAMPLE', abi.IRQFD_FLAG.resample],
  ['KVM_IOEVENTFD_FLAG_DATAMATCH', abi.IOEVENTFD_FLAG.datamatch],
  ['KVM_IOEVENTFD_FLAG_DEASSIGN', abi.IOEVENTFD_FLAG.deassign],
  ...structRows('kvm_dirty_log', abi.DIRTY_LOG, { bitmap: 'dirty_bitmap' }),
  ...structRows('kvm_userspace_memory_region', abi.USER_MEMORY_REGION, {
    guestPhysAddr: 'guest_phys_addr',
    memorySize: 'memory_size',
    userspaceAddr: 'userspace_addr',
  }),
  ...structRows('kvm_irq_level', abi.IRQ_LEVEL),
  ...structRows('kvm_pit_config', abi.PIT_CONFIG),
  ...structRows('kvm_pit_state2', abi.PIT_STATE),
  ...structRows('kvm_pit_channel_state', abi.PIT_CHANNEL, {
    readState: 'read_state',
    writeState: 'write_state',
    rwMode: 'rw_mode',
  }),
  ['KVM_PIT_FLAGS_SPEAKER_DATA_ON', abi.PIT_SPEAKER_DATA_ON],
  ...structRows('kvm_cpuid2', abi.CPUID2),
  ...structRows('kvm_cpuid_entry2', abi.CPUID_ENTRY),
  ...structRows('kvm_msrs', abi.MSRS),
  ...structRows('kvm_msr_entry', abi.MSR_ENTRY),
  ...structRows('kvm_fpu', abi.FPU),
  ...structRows('kvm_mp_state', abi.MP_STATE, { mpState: 'mp_state' }),
  ...structRows('kvm_enable_cap', abi.ENABLE_CAP),
  ['KVM_X2APIC_API_USE_32BIT_IDS', abi.X2APIC_API.use32bitIds],
  ['KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK', abi.X2APIC_API.disableBroadcastQuirk],
  ['sizeof(struct kvm_lapic_state)', abi.LAPIC.size],
  ['offsetof(struct kvm_vcpu_events, nmi.injected)', abi.VCPU_EVENTS.nmiInjected],
  ['offsetof(struct kvm_vcpu_events, nmi.pending)', abi.VCPU_EVENTS.nmiPending],
  ['offsetof(struct kvm_vcpu_events, nmi.masked)', abi.VCPU_EVENTS.nmiMasked],
  ['offsetof(struct kvm_vcpu_events, sipi_vector)', abi.VCPU_EVENTS.sipiVector],
  ['offsetof(struct kvm_coalesced_mmio_ring, first)', abi.COALESCED_RING.first],
  ['offsetof(struct kvm_coalesced_mmio_ring, last)', abi.COALESCED_RING.last],
  ['offsetof(struct kvm_coalesced_mmio_ring, coalesced_mmio)', abi.COALESCED_RING.entries],
  ['offsetof(struct kvm_coalesced_mmio, phys_addr)', abi.COALESCED_RING.entryAddress],
  ['offsetof(struct kvm_coalesced_mmio, data)', abi.COALESCED_RING.entryData],
  ['sizeof(struct kvm_coalesced_mmio)', abi.COALESCED_RING.entryBytes],
  ['offsetof(struct kvm_vcpu_events, flags)', abi.VCPU_EVENTS.flags],
  ['sizeof(struct kvm_vcpu_events)', abi.VCPU_EVENTS.size],
  ['KVM_VCPUEVENT_VALID_SIPI_VECTOR', abi.VCPUEVENT_VALID_SIPI_VECTOR],
  ...runRows({
    request_interrupt_window: abi.RUN.requestInterruptWindow,
    immediate_exit: abi.RUN.immediateExit,
    exit_reason: abi.RUN.exitReason,
    'io.direction': abi.RUN.io.direction,
    'io.size': abi.RUN.io.size,
    'io.port': abi.RUN.io.port,
    'io.count': abi.RUN.io.count,
    'io.data_offset': abi.RUN.io.dataOffset,
    'mmio.phys_addr': abi.RUN.mmio.physAddr,
    'mmio.data': abi.RUN.mmio.data,
    'mmio.len': abi.RUN.mmio.length,
    'mmio.is_write': abi.RUN.mmio.isWrite,
    'fail_entry.hardware_entry_failure_reason': abi.RUN.failEntry.reason,
    'fail_entry.cpu': abi.RUN.failEntry.cpu,
    'internal.suberror': abi.RUN.internal.suberror,
    'internal.ndata': abi.RUN.internal.ndata,
    'internal.data': abi.RUN.internal.data,
    'emulation_failure.insn_size': abi.RUN.internal.insnSize,
    'emulation_failure.insn_bytes': abi.RUN.internal.insnBytes,
    'system_event.type': abi.RUN.systemEvent.type,
    'system_event.ndata': abi.RUN.systemEvent.ndata,
    'system_event.data': abi.RUN.systemEvent.data,
    'hw.hardware_exit_reason': abi.RUN.hardwareExitReason,
    'msr.error': abi.RUN.msr.error,
    'msr.reason': abi.RUN.msr.reason,
    'msr.index': abi.RUN.msr.index,
    'msr.data': abi.RUN.msr.data,
    'hypercall.nr': abi.RUN.hypercall.nr,
    'hypercall.args': abi.RUN.hypercall.args,
    'hypercall.ret': abi.RUN.hypercall.ret,
  }),
  ...nameRows('KVM_EXIT_', abi.EXIT, {
    irqWindowOpen: 'IRQ_WINDOW_OPEN',
    setTpr: 'SET_TPR',
    tprAccess: 'TPR_ACCESS',
    failEntry: 'FAIL_ENTRY',
    internalError: 'INTERNAL_ERROR',
    systemEvent: 'SYSTEM_EVENT',
    ioapicEoi: 'IOAPIC_EOI',
    x86Rdmsr: 'X86_RDMSR',
    x86Wrmsr: 'X86_WRMSR',
    dirtyRingFull: 'DIRTY_RING_FULL',
    apResetHold: 'AP_RESET_HOLD',
    x86BusLock: 'X86_BUS_LOCK',
    memoryFault: 'MEMORY_FAULT',
  }),
  ...nameRows('KVM_INTERNAL_ERROR_', abi.INTERNAL_ERROR, {
    simultaneousException: 'SIMUL_EX',
    deliverEvent: 'DELIVERY_EV',
    unexpectedExitReason: 'UNEXPECTED_EXIT_REASON',
  }),
  ...nameRows('KVM_SYSTEM_EVENT_', abi.SYSTEM_EVENT),
  ...nameRows('KVM_MP_STATE_', abi.KVM_MP_STATE, {
    initReceived: 'INIT_RECEIVED',
    sipiReceived: 'SIPI_RECEIVED',
  }),
  ...nameRows('KVM_CAP_', abi.CAP, {
    userMemory: 'USER_MEMORY',
    setTssAddr: 'SET_TSS_ADDR',
    extCpuid: 'EXT_CPUID',
    nrVcpus: 'NR_VCPUS',
    mpState: 'MP_STATE',
    coalescedMmio: 'COALESCED_MMIO',
    coalescedPio: 'COALESCED_PIO',
    setBootCpuId: 'SET_BOOT_CPU_ID',
    setIdentityMapAddr: 'SET_IDENTITY_MAP_ADDR',
    getTscKhz: 'GET_TSC_KHZ',
    maxVcpus: 'MAX_VCPUS',
    tscDeadlineTimer: 'TSC_DEADLINE_TIMER',
    signalMsi: 'SIGNAL_MSI',
    maxVcpuId: 'MAX_VCPU_ID',
    x2apicApi: 'X2APIC_API',
    immediateExit: 'IMMEDIATE_EXIT',
  }),
  ['KVM_API_VERSION', abi.KVM_API_VERSION],
  ['KVM_PIT_SPEAKER_DUMMY', abi.PIT_SPEAKER_DUMMY],
  ['KVM_CPUID_FLAG_SIGNIFCANT_INDEX', INDEXED],
  ...nameRows('KVM_', IOCTL, {
    setGsiRouting: 'SET_GSI_ROUTING',
    registerCoalesced: 'REGISTER_COALESCED_MMIO',
    unregisterCoalesced: 'UNREGISTER_COALESCED_MMIO',
    getApiVersion: 'GET_API_VERSION',
    createVm: 'CREATE_VM',
    checkExtension: 'CHECK_EXTENSION',
    getVcpuMmapSize: 'GET_VCPU_MMAP_SIZE',
    getSupportedCpuid: 'GET_SUPPORTED_CPUID',
    createVcpu: 'CREATE_VCPU',
    getDirtyLog: 'GET_DIRTY_LOG',
    setUserMemoryRegion: 'SET_USER_MEMORY_REGION',
    setTssAddr: 'SET_TSS_ADDR',
    setIdentityMapAddr: 'SET_IDENTITY_MAP_ADDR',
    createIrqchip: 'CREATE_IRQCHIP',
    irqLine: 'IRQ_LINE',
    createPit2: 'CREATE_PIT2',
    getPitState: 'GET_PIT2',
    setPitState: 'SET_PIT2',
    getRegs: 'GET_REGS',
    setRegs: 'SET_REGS',
    getSregs: 'GET_SREGS',
    setSregs: 'SET_SREGS',
    setMsrs: 'SET_MSRS',
    setFpu: 'SET_FPU',
    getLapic: 'GET_LAPIC',
    setLapic: 'SET_LAPIC',
    setCpuid2: 'SET_CPUID2',
    getMpState: 'GET_MP_STATE',
    setMpState: 'SET_MP_STATE',
    getVcpuEvents: 'GET_VCPU_EVENTS',
    setVcpuEvents: 'SET_VCPU_EVENTS',
    getTscKhz: 'GET_TSC_KHZ',
    setBootCpuId: 'SET_BOOT_CPU_ID',
    signalMsi: 'SIGNAL_MSI',
    kvmclockCtrl: 'KVMCLOCK_CTRL',
    enableCap: 'ENABLE_CAP',
  }),
];

/** Fields of a struct, by their own names unless `renamed`, and its size. */
function structRows(
  struct: string,
  layout: Readonly<Record<string, number>> & { readonly size: number },
  renamed: Readonly<Record<string, string>> = {},
): [string, number][] {
  return Object.entries(layout).map(([name, offset]) =>
    name === 'size'
      ? [`sizeof(struct ${struct})`, offset]
      : [`offsetof(struct ${struct}, ${renamed[name] ?? name})`, offset],
  );
}

function runRows(fields: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(fields).map(([field, offset]) => [`offsetof(struct kvm_run, ${field})`, offset]);
}

/** Constants, in upper case unless `renamed`. */
function nameRows(
  prefix: string,
  values: Readonly<Record<string, number>>,
  renamed: Readonly<Record<string, string>> = {},
): [string, number][] {
  return Object.entries(values).map(([name, value]) => [
    `${prefix}${renamed[name] ?? name.toUpperCase()}`,
    value,
  ]);
}

/** Younger than the headers of Debian 12, so not every machine's C compiler knows it. (Linux 6.8) */
const YOUNG = new Set(['KVM_EXIT_MEMORY_FAULT']);

describe('against linux/kvm.h', () => {
  test.skipIf(!hasKvmHeaders())(
    'every size, offset and constant is that of the C headers (needs gcc and linux/kvm.h)',
    () => {
      const rows = ROWS.filter(([expression]) => !YOUNG.has(expression));
      const inC = readKvmHeaders(rows.map(([expression]) => expression));
      const wrong = rows.flatMap(([expression, ours], i) =>
        inC[i] === ours ? [] : [`${expression} is ${inC[i]} in C and ${ours} here`],
      );
      expect(wrong).toEqual([]);
      expect(rows.length).toBeGreaterThan(150);
    },
    60_000,
  );
});

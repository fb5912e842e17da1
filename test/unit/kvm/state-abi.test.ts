import { describe, expect, setDefaultTimeout, test } from 'bun:test';
import { FPU } from '../../../src/kvm/abi.ts';
import * as abi from '../../../src/kvm/state-abi.ts';
import { STATE_IOCTL } from '../../../src/kvm/state-abi.ts';
import { SNAPSHOT_KVM_IOCTL } from '../../../src/sandbox/ioctls.ts';
import { hasKvmHeaders, readKvmHeaders } from './kvm-headers.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

/** Number and name in C of each call. */
const CALLS: Readonly<Record<keyof typeof STATE_IOCTL, readonly [number, string]>> = {
  getMsrIndexList: [0xc004_ae02, 'GET_MSR_INDEX_LIST'],
  getIrqchip: [0xc208_ae62, 'GET_IRQCHIP'],
  setIrqchip: [0x8208_ae63, 'SET_IRQCHIP'],
  setClock: [0x4030_ae7b, 'SET_CLOCK'],
  getClock: [0x8030_ae7c, 'GET_CLOCK'],
  getMsrs: [0xc008_ae88, 'GET_MSRS'],
  getFpu: [0x81a0_ae8c, 'GET_FPU'],
  getCpuid2: [0xc008_ae91, 'GET_CPUID2'],
  getDebugRegs: [0x8080_aea1, 'GET_DEBUGREGS'],
  setDebugRegs: [0x4080_aea2, 'SET_DEBUGREGS'],
  setTscKhz: [0xaea2, 'SET_TSC_KHZ'],
  getXsave: [0x9000_aea4, 'GET_XSAVE'],
  setXsave: [0x5000_aea5, 'SET_XSAVE'],
  getXcrs: [0x8188_aea6, 'GET_XCRS'],
  setXcrs: [0x4188_aea7, 'SET_XCRS'],
  getNestedState: [0xc080_aebe, 'GET_NESTED_STATE'],
  setNestedState: [0x4080_aebf, 'SET_NESTED_STATE'],
  getSregs2: [0x8140_aecc, 'GET_SREGS2'],
  setSregs2: [0x4140_aecd, 'SET_SREGS2'],
  getXsave2: [0x9000_aecf, 'GET_XSAVE2'],
  setDeviceAttribute: [0x4018_aee1, 'SET_DEVICE_ATTR'],
  getDeviceAttribute: [0x4018_aee2, 'GET_DEVICE_ATTR'],
};

test('every ioctl has its well-known number', () => {
  const numbers = Object.fromEntries(Object.entries(CALLS).map(([name, [number]]) => [name, number]));

  expect(STATE_IOCTL).toEqual(numbers as never);
});

test('the sandbox allows those that read, and none that writes', () => {
  const reading = Object.entries(STATE_IOCTL).filter(([name]) => name.startsWith('get'));

  expect(SNAPSHOT_KVM_IOCTL).toEqual(Object.fromEntries(reading) as never);
});

const offsets = (struct: string, fields: Readonly<Record<string, number>>) =>
  Object.entries(fields).map(
    ([field, value]) => [`offsetof(struct ${struct}, ${field})`, value] as [string, number],
  );
const size = (struct: string, value: number): [string, number] => [`sizeof(struct ${struct})`, value];

const ROWS: readonly (readonly [string, number])[] = [
  ...offsets('kvm_sregs2', { flags: abi.SREGS2.flags, pdptrs: abi.SREGS2.pdptrs }),
  size('kvm_sregs2', abi.SREGS2.size),
  // Both structures are the same up to here, so one decoder reads both.
  ['offsetof(struct kvm_sregs, interrupt_bitmap)', abi.SREGS2.flags],
  size('kvm_xsave', abi.XSAVE_BYTES),
  ...offsets('kvm_xcrs', { nr_xcrs: abi.XCRS.nrXcrs, flags: abi.XCRS.flags, xcrs: abi.XCRS.xcrs }),
  size('kvm_xcrs', abi.XCRS.size),
  ...offsets('kvm_xcr', { xcr: abi.XCR.xcr, reserved: abi.XCR.reserved, value: abi.XCR.value }),
  size('kvm_xcr', abi.XCR.size),
  ...offsets('kvm_debugregs', {
    db: abi.DEBUG_REGS.db,
    dr6: abi.DEBUG_REGS.dr6,
    dr7: abi.DEBUG_REGS.dr7,
    flags: abi.DEBUG_REGS.flags,
  }),
  size('kvm_debugregs', abi.DEBUG_REGS.size),
  ...offsets('kvm_clock_data', {
    clock: abi.CLOCK_DATA.clock,
    flags: abi.CLOCK_DATA.flags,
    realtime: abi.CLOCK_DATA.realtime,
    host_tsc: abi.CLOCK_DATA.hostTsc,
  }),
  size('kvm_clock_data', abi.CLOCK_DATA.size),
  ['KVM_CLOCK_TSC_STABLE', abi.CLOCK_FLAG.tscStable],
  ['KVM_CLOCK_REALTIME', abi.CLOCK_FLAG.realtime],
  ['KVM_CLOCK_HOST_TSC', abi.CLOCK_FLAG.hostTsc],
  ...offsets('kvm_irqchip', { chip_id: abi.IRQCHIP.chipId, chip: abi.IRQCHIP.chip }),
  size('kvm_irqchip', abi.IRQCHIP.size),
  ['KVM_IRQCHIP_PIC_MASTER', abi.IRQCHIP_ID.picMaster],
  ['KVM_IRQCHIP_PIC_SLAVE', abi.IRQCHIP_ID.picSlave],
  ['KVM_IRQCHIP_IOAPIC', abi.IRQCHIP_ID.ioapic],
  ...offsets('kvm_msr_list', { nmsrs: abi.MSR_LIST.nmsrs, indices: abi.MSR_LIST.size }),
  ...offsets('kvm_nested_state', {
    flags: abi.NESTED_STATE.flags,
    format: abi.NESTED_STATE.format,
    size: abi.NESTED_STATE.bytes,
    'hdr.vmx.vmxon_pa': abi.NESTED_STATE.vmxonPa,
    data: abi.NESTED_STATE.size,
  }),
  ['KVM_STATE_NESTED_FORMAT_VMX', abi.NESTED_FORMAT.vmx],
  ['KVM_STATE_NESTED_FORMAT_SVM', abi.NESTED_FORMAT.svm],
  ...offsets('kvm_device_attr', {
    flags: abi.DEVICE_ATTR.flags,
    group: abi.DEVICE_ATTR.group,
    attr: abi.DEVICE_ATTR.attr,
    addr: abi.DEVICE_ATTR.addr,
  }),
  size('kvm_device_attr', abi.DEVICE_ATTR.size),
  ['KVM_VCPU_TSC_CTRL', abi.TSC_OFFSET.group],
  ['KVM_VCPU_TSC_OFFSET', abi.TSC_OFFSET.attr],
  ['KVM_VCPUEVENT_VALID_NMI_PENDING', abi.VCPU_EVENT_FLAG.nmiPending],
  ['KVM_VCPUEVENT_VALID_SIPI_VECTOR', abi.VCPU_EVENT_FLAG.sipiVector],
  ['KVM_VCPUEVENT_VALID_SHADOW', abi.VCPU_EVENT_FLAG.shadow],
  ['KVM_VCPUEVENT_VALID_SMM', abi.VCPU_EVENT_FLAG.smm],
  ['KVM_VCPUEVENT_VALID_PAYLOAD', abi.VCPU_EVENT_FLAG.payload],
  ['KVM_VCPUEVENT_VALID_TRIPLE_FAULT', abi.VCPU_EVENT_FLAG.tripleFault],
  ['KVM_CAP_XSAVE', abi.STATE_CAP.xsave],
  ['KVM_CAP_XCRS', abi.STATE_CAP.xcrs],
  ['KVM_CAP_TSC_CONTROL', abi.STATE_CAP.tscControl],
  ['KVM_CAP_VCPU_ATTRIBUTES', abi.STATE_CAP.vcpuAttributes],
  ['KVM_CAP_NESTED_STATE', abi.STATE_CAP.nestedState],
  ['KVM_CAP_SREGS2', abi.STATE_CAP.sregs2],
  ['KVM_CAP_XSAVE2', abi.STATE_CAP.xsave2],
  ...Object.values(CALLS).map(([number, name]) => [`KVM_${name}`, number] as const),
  size('kvm_fpu', FPU.size),
];

describe('against linux/kvm.h', () => {
  test.skipIf(!hasKvmHeaders())(
    'every size, offset and constant is that of the C headers (needs gcc and linux/kvm.h)',
    () => {
      const inC = readKvmHeaders(ROWS.map(([expression]) => expression));
      const wrong = ROWS.flatMap(([expression, ours], i) =>
        inC[i] === ours ? [] : [`${expression} is ${inC[i]} in C and ${ours} here`],
      );
      expect(wrong).toEqual([]);
      expect(ROWS.length).toBeGreaterThan(80);
    },
    60_000,
  );
});

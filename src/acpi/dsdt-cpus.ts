/**
 * The processor container of the DSDT, with a device for each vCPU, present or hotpluggable. (ACPI 6.5 §8.4)
 *
 * A thousand devices must fit below 1 MiB, so each one's methods only call a shared method with the vCPU's
 * index. Notify takes no computed target: a binary search over the indices leads to the Notify of the right
 * device.
 */
import { CPU_HOTPLUG, CPU_HOTPLUG_NONE, CPU_HOTPLUG_STATUS, PORT } from '../machine/ports.ts';
import { LOCAL_APIC, LOCAL_APIC_FLAG, LOCAL_X2APIC, MADT_TYPE } from './acpi.layout.ts';
import type { AcpiCpu, AcpiInputs } from './acpi-inputs.ts';
import {
  acquire,
  argument,
  bitAnd,
  buffer,
  call,
  createDwordField,
  device,
  field,
  FIELD_ACCESS,
  FIELD_UPDATE,
  FOREVER,
  ifBlock,
  index,
  less,
  local,
  method,
  mutex,
  nameObject,
  notEqual,
  notify,
  operationRegion,
  elseBlock,
  REGION_SPACE,
  release,
  returnValue,
  store,
  subtract,
  whileLoop,
} from './aml.ts';
import { eisaId, nameString, string, type Aml } from './aml-encoding.ts';
import { needsX2apic } from './madt.ts';

/** Notifies the guest of every event that the hotplug registers report. */
export const CPU_SCAN_METHOD = '\\_SB.CPUS.CSCN';

/** Device object notification values. (§5.6.6) */
const DEVICE_CHECK = 1;
const EJECT_REQUEST = 3;
/** Present, enabled, shown in the user interface, functioning. (§6.3.7) */
const STATUS_ALL = 0x0f;
const { select, status, next, ostStatus, bytes: registerBytes } = CPU_HOTPLUG;
const { present, inserted, removing, eject } = CPU_HOTPLUG_STATUS;

/** Names of the registers, and of the mutex that is held from a selection to its last use. */
const REGISTER = { select: 'CSEL', status: 'CSTS', next: 'CNXT', ostStatus: 'COSS' } as const;
const LOCK = 'CLCK';
/** Names of the shared methods; Arg0 is the vCPU's index. */
const SHARED = {
  status: 'CSTA',
  madt: 'CMAT',
  x2apicMadt: 'CXMT',
  eject: 'CEJ0',
  ost: 'COST',
  notify: 'CTFY',
};

export function processorContainer(inputs: AcpiInputs): Aml {
  const { cpus, cpuHotplug } = inputs;
  return device(
    'CPUS',
    nameObject('_HID', string('ACPI0010')),
    nameObject('_CID', eisaId('PNP0A05')),
    ...(cpuHotplug ? [...registers(), ...sharedMethods(cpus)] : []),
    ...cpus.map((cpu) => processor(cpu, inputs)),
  );
}

function processorName({ uid }: AcpiCpu): string {
  return `C${uid.toString(16).toUpperCase().padStart(3, '0')}`;
}

function processor(cpu: AcpiCpu, { bootCpu, cpuHotplug, numa }: AcpiInputs): Aml {
  const { uid } = cpu;
  const absent = cpu.present || cpuHotplug ? [] : [nameObject('_STA', 0)];
  return device(
    processorName(cpu),
    nameObject('_HID', string('ACPI0007')),
    nameObject('_UID', uid),
    ...(numa ? [nameObject('_PXM', cpu.node ?? 0)] : []),
    ...(cpuHotplug ? hotplugMethods(cpu, uid === bootCpu) : absent),
  );
}

/** The BSP has no _EJ0: it cannot be ejected. */
function hotplugMethods(cpu: AcpiCpu, boot: boolean): Aml[] {
  const { uid, apicId } = cpu;
  const madt = needsX2apic(cpu) ? SHARED.x2apicMadt : SHARED.madt;
  const ejection = method('_EJ0', { args: 1 }, call(SHARED.eject, uid));
  return [
    method('_STA', {}, returnValue(call(SHARED.status, uid))),
    method('_MAT', {}, returnValue(call(madt, uid, apicId))),
    method('_OST', { args: 3 }, call(SHARED.ost, uid, argument(0), argument(1))),
    ...(boot ? [] : [ejection]),
  ];
}

/** Fields of 32 bits: a narrower one would make each write a read-modify-write. */
function registers(): Aml[] {
  const units = [
    { name: REGISTER.select, at: select },
    { name: REGISTER.status, at: status },
    { name: REGISTER.next, at: next },
    { name: REGISTER.ostStatus, at: ostStatus },
  ];
  return [
    operationRegion('CREG', REGION_SPACE.systemIo, PORT.cpuHotplug, registerBytes),
    field(
      'CREG',
      { access: FIELD_ACCESS.dword, update: FIELD_UPDATE.writeAsZeros },
      ...units.map(({ name }) => ({ name, bits: 32 })),
    ),
    mutex(LOCK),
  ];
}

function locked(...body: readonly Aml[]): Aml[] {
  return [acquire(LOCK, FOREVER), ...body, release(LOCK)];
}

function sharedMethods(cpus: readonly AcpiCpu[]): Aml[] {
  const [uid, apicId] = [argument(0), argument(1)];
  const selectCpu = store(uid, nameString(REGISTER.select));
  const ascending = [...cpus].sort((a, b) => a.uid - b.uid);
  const end = ascending.at(-1)!.uid + 1;
  return [
    method(
      SHARED.status,
      { args: 1, serialized: true },
      store(0, local(0)),
      ...locked(
        selectCpu,
        ifBlock(bitAnd(nameString(REGISTER.status), present), store(STATUS_ALL, local(0))),
      ),
      returnValue(local(0)),
    ),
    ...madtMethods(cpus, uid, apicId),
    method(
      SHARED.eject,
      { args: 1, serialized: true },
      ...locked(selectCpu, store(eject, nameString(REGISTER.status))),
    ),
    method(
      SHARED.ost,
      { args: 3, serialized: true },
      ...locked(
        selectCpu,
        store(argument(1), nameString(REGISTER.next)),
        store(argument(2), nameString(REGISTER.ostStatus)),
      ),
    ),
    method(SHARED.notify, { args: 2 }, ifBlock(less(uid, end), ...notifyAmong(ascending))),
    scanMethod(),
  ];
}

/**
 * _MAT (§6.2.10): the vCPU's MADT entry with current flags: 1, enabled, if present; otherwise 2, online
 * capable.
 */
function madtMethods(cpus: readonly AcpiCpu[], uid: Aml, apicId: Aml): Aml[] {
  const storeFlags = (target: Aml) =>
    subtract(LOCAL_APIC_FLAG.onlineCapable, bitAnd(call(SHARED.status, uid), 1), target);
  const entry = local(0);
  const localApic = method(
    SHARED.madt,
    { args: 2, serialized: true },
    store(buffer(entryOf(MADT_TYPE.localApic, LOCAL_APIC.size)), entry),
    store(uid, index(entry, LOCAL_APIC.uid)),
    store(apicId, index(entry, LOCAL_APIC.apicId)),
    storeFlags(index(entry, LOCAL_APIC.flags)),
    returnValue(entry),
  );
  const localX2apic = method(
    SHARED.x2apicMadt,
    { args: 2, serialized: true },
    store(buffer(entryOf(MADT_TYPE.localX2apic, LOCAL_X2APIC.size)), entry),
    createDwordField(entry, LOCAL_X2APIC.apicId, 'XAID'),
    createDwordField(entry, LOCAL_X2APIC.flags, 'XFLG'),
    createDwordField(entry, LOCAL_X2APIC.uid, 'XUID'),
    store(apicId, nameString('XAID')),
    storeFlags(nameString('XFLG')),
    store(uid, nameString('XUID')),
    returnValue(entry),
  );
  return [...(cpus.every(needsX2apic) ? [] : [localApic]), ...(cpus.some(needsX2apic) ? [localX2apic] : [])];
}

/** A MADT entry with its type, its length, and zeroes. */
function entryOf(type: number, size: number): Aml {
  return [type, size, ...Array<number>(size - 2).fill(0)];
}

/** Statements that notify the device of vCPU Arg0, one of `cpus`, with value Arg1. */
function notifyAmong(cpus: readonly AcpiCpu[]): Aml[] {
  const [first] = cpus;
  if (first === undefined) return [];
  if (cpus.length === 1) return [notify(nameString(processorName(first)), argument(1))];
  const middle = cpus.length >>> 1;
  return [
    ifBlock(less(argument(0), cpus[middle]!.uid), ...notifyAmong(cpus.slice(0, middle))),
    elseBlock(...notifyAmong(cpus.slice(middle))),
  ];
}

/** Acknowledging the events of a vCPU makes the `next` register report another one. */
function scanMethod(): Aml {
  const [cpu, events] = [local(0), local(1)];
  const readNext = store(nameString(REGISTER.next), cpu);
  return method(
    CPU_SCAN_METHOD.split('.').at(-1)!,
    { serialized: true },
    ...locked(
      readNext,
      whileLoop(
        notEqual(cpu, CPU_HOTPLUG_NONE),
        bitAnd(nameString(REGISTER.status), inserted | removing, events),
        ifBlock(bitAnd(events, inserted), call(SHARED.notify, cpu, DEVICE_CHECK)),
        ifBlock(bitAnd(events, removing), call(SHARED.notify, cpu, EJECT_REQUEST)),
        store(events, nameString(REGISTER.status)),
        readNext,
      ),
    ),
  );
}

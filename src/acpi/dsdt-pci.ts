/**
 * PCI in the DSDT: a host bridge for each bus, with its resources, its interrupt pins and its slots. (ACPI 6.5 chapter 6,
 * PCI Firmware Specification 3.3 §4)
 *
 * Devices are plugged and removed by ACPI: Linux handles that with its acpiphp, which needs no parameter, no bridges
 * with a slot each, and no PCI Express capability. The guest is told by the generic event device.
 */
import { PCI_PIN_GSIS } from '../machine/irqs.ts';
import { PCI_HOTPLUG, PORT } from '../machine/ports.ts';
import type { AcpiPci, AcpiPciBus } from './acpi-inputs.ts';
import {
  acquire,
  argument,
  bitAnd,
  bitOr,
  buffer,
  call,
  createDwordField,
  device,
  equal,
  field,
  FIELD_ACCESS,
  FIELD_UPDATE,
  FOREVER,
  ifBlock,
  local,
  method,
  mutex,
  nameObject,
  notEqual,
  notify,
  operationRegion,
  packageObject,
  REGION_SPACE,
  release,
  returnValue,
  store,
} from './aml.ts';
import { concat, eisaId, nameString, type Aml } from './aml-encoding.ts';
import { busNumbers, fixedMemory, ioPorts, memoryWindow, resourceTemplate } from './aml-resources.ts';

/** Notifies the guest of every slot whose device was plugged, or is asked for. */
export const PCI_SCAN_METHOD = '\\_SB.PCIH.PSCN';

const SLOTS = 32;
const CONFIG_PORTS = 8;
const DEVICE_CHECK = 1;
const EJECT_REQUEST = 3;
const INTA = 0;
/** _ADR and _PRT: the device's number above 16 bits of its function. (ACPI 6.5 §6.1.1, §6.2.13) */
const ANY_FUNCTION = 0xffff;

/** 33DB4D5B-1FF7-401C-9657-7441C03DD766 (PCI Firmware 3.3 §4.5.1) */
const OSC_PCI_UUID = [
  0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66,
];
/** Status bits of _OSC: UUID not recognised, capabilities masked. (ACPI 6.5 §6.2.11.3) */
const OSC_STATUS = { unknownUuid: 1 << 2, masked: 1 << 4 } as const;
/** Control of native hotplug by PCI Express and SHPC stays here: slots are ACPI's. (PCI Firmware 3.3 table 4-6) */
const OSC_GRANTED = 0xffff_fffc;

const REGISTER = {
  bus: 'PBUS',
  inserted: 'PINS',
  removing: 'PREM',
  eject: 'PEJE',
  slot: 'POSS',
  status: 'POST',
};
const LOCK = 'PLCK';
const HOTPLUG = '\\_SB.PCIH';

/** The host bridges, and the device that has the hotplug registers. */
export function pciDevices(pci: AcpiPci): Aml[] {
  return [...hostBridges(pci), hotplugController(pci)];
}

function hostBridges({ ecam, buses }: AcpiPci): Aml[] {
  return buses.map((bus) =>
    device(
      busName(bus),
      nameObject('_HID', eisaId('PNP0A08')),
      nameObject('_CID', eisaId('PNP0A03')),
      nameObject('_UID', bus.number),
      nameObject('_SEG', 0),
      nameObject('_BBN', bus.number),
      nameObject('_CRS', busResources(bus)),
      nameObject('_PRT', interruptPins(bus)),
      operatingSystemCapabilities(),
      ...(bus.number === 0 ? [reservedMemory(ecam)] : []),
      ...slotsOf(bus),
    ),
  );
}

function busName({ number }: AcpiPciBus): string {
  return `PCI${number}`;
}

function busResources({ number, windows }: AcpiPciBus): Aml {
  return resourceTemplate(
    busNumbers(number, number),
    ...(number === 0 ? [ioPorts(PORT.pciConfigAddress, CONFIG_PORTS)] : []),
    ...windows.map(({ address, bytes }) => memoryWindow(address, bytes)),
  );
}

/** Linux uses ECAM only where the firmware reserves it. (PCI Firmware 3.3 §4.1.2, note 2) */
function reservedMemory({ address, bytes }: AcpiPci['ecam']): Aml {
  return device(
    'ECAM',
    nameObject('_HID', eisaId('PNP0C02')),
    nameObject('_CRS', resourceTemplate(fixedMemory(address, bytes))),
  );
}

/** Pin INTA# of each device to its interrupt, which is level-triggered and active low. (ACPI 6.5 §6.2.13) */
function interruptPins({ number }: AcpiPciBus): Aml {
  const rows = Array.from({ length: SLOTS }, (_, slot) =>
    packageObject(
      slot * 2 ** 16 + ANY_FUNCTION,
      INTA,
      0,
      PCI_PIN_GSIS[(number * SLOTS + slot) % PCI_PIN_GSIS.length]!,
    ),
  );
  return packageObject(...rows);
}

/** _OSC (ACPI 6.5 §6.2.11): Arg0 is the UUID, Arg3 the capabilities, of which the third word asks for control. */
function operatingSystemCapabilities(): Aml {
  const capabilities = argument(3);
  const [status, control] = [nameString('CDW1'), nameString('CDW3')];
  return method(
    '_OSC',
    { args: 4, serialized: true },
    createDwordField(capabilities, 0, 'CDW1'),
    ifBlock(
      equal(argument(0), buffer(OSC_PCI_UUID)),
      createDwordField(capabilities, 8, 'CDW3'),
      bitAnd(control, OSC_GRANTED, local(0)),
      ifBlock(notEqual(local(0), control), bitOr(status, OSC_STATUS.masked, status)),
      store(local(0), control),
      returnValue(capabilities),
    ),
    bitOr(status, OSC_STATUS.unknownUuid, status),
    returnValue(capabilities),
  );
}

function slotName(bus: AcpiPciBus, slot: number): string {
  const number = bus.number * SLOTS + slot;
  return `S${number.toString(16).toUpperCase().padStart(3, '0')}`;
}

function slotsOf(bus: AcpiPciBus): Aml[] {
  return bus.slots.map((slot) => {
    const number = bus.number * SLOTS + slot;
    return device(
      slotName(bus, slot),
      nameObject('_SUN', number),
      nameObject('_ADR', slot * 2 ** 16),
      method('_EJ0', { args: 1 }, call(`${HOTPLUG}.EJCT`, bus.number, slot)),
      method('_OST', { args: 3 }, call(`${HOTPLUG}.REPT`, number, argument(1))),
    );
  });
}

/** The registers of machine/ports.ts, and the methods that use them. */
function hotplugController({ buses }: AcpiPci): Aml {
  const names = [
    REGISTER.bus,
    REGISTER.inserted,
    REGISTER.removing,
    REGISTER.eject,
    REGISTER.slot,
    REGISTER.status,
  ];
  return device(
    'PCIH',
    nameObject('_HID', eisaId('PNP0A06')),
    nameObject('_UID', 1),
    nameObject('_CRS', resourceTemplate(ioPorts(PORT.pciHotplug, PCI_HOTPLUG.bytes))),
    operationRegion('PREG', REGION_SPACE.systemIo, PORT.pciHotplug, PCI_HOTPLUG.bytes),
    field(
      'PREG',
      { access: FIELD_ACCESS.dword, update: FIELD_UPDATE.writeAsZeros },
      ...names.map((name) => ({ name, bits: 32 })),
    ),
    mutex(LOCK),
    method(
      'EJCT',
      { args: 2, serialized: true },
      ...locked(store(argument(0), nameString(REGISTER.bus)), store(argument(1), nameString(REGISTER.eject))),
    ),
    method(
      'REPT',
      { args: 2, serialized: true },
      ...locked(
        store(argument(0), nameString(REGISTER.slot)),
        store(argument(1), nameString(REGISTER.status)),
      ),
    ),
    method('PSCN', { serialized: true }, ...buses.map((bus) => scanBus(bus)).flat()),
  );
}

/** Reading a register clears its events, so each leads to one notification. */
function scanBus(bus: AcpiPciBus): Aml[] {
  const [inserted, removing] = [local(0), local(1)];
  const notifyEach = (events: Aml, value: number) =>
    bus.slots.map((slot) =>
      ifBlock(
        bitAnd(events, 2 ** slot),
        notify(nameString(`\\_SB.${busName(bus)}.${slotName(bus, slot)}`), value),
      ),
    );
  return [
    concat(
      ...locked(
        store(bus.number, nameString(REGISTER.bus)),
        store(nameString(REGISTER.inserted), inserted),
        store(nameString(REGISTER.removing), removing),
      ),
    ),
    ...notifyEach(inserted, DEVICE_CHECK),
    ...notifyEach(removing, EJECT_REQUEST),
  ];
}

function locked(...body: readonly Aml[]): Aml[] {
  return [acquire(LOCK, FOREVER), ...body, release(LOCK)];
}

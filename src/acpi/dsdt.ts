/**
 * Differentiated System Description Table (DSDT): the devices that a guest cannot enumerate. (ACPI 6.5
 * §5.2.11.1, chapters 6 and 9)
 */
import { GSI } from '../machine/irqs.ts';
import { ACPI_EVENT, ACPI_SLEEP_TYPE_S5, COM1_PORTS, PORT } from '../machine/ports.ts';
import { HEADER, SIGNATURE } from './acpi.layout.ts';
import type { AcpiInputs, AcpiVirtioDevice } from './acpi-inputs.ts';
import {
  bitAnd,
  call,
  device,
  field,
  FIELD_ACCESS,
  FIELD_UPDATE,
  ifBlock,
  local,
  method,
  nameObject,
  notify,
  operationRegion,
  packageObject,
  REGION_SPACE,
  scope,
  store,
} from './aml.ts';
import { concat, eisaId, nameString, string, type Aml } from './aml-encoding.ts';
import { edgeInterrupt, fixedMemory, ioPorts, resourceTemplate } from './aml-resources.ts';
import { CPU_SCAN_METHOD, processorContainer } from './dsdt-cpus.ts';
import { PCI_SCAN_METHOD, pciDevices } from './dsdt-pci.ts';
import { buildTable } from './sdt.ts';

/** From revision 2, integers have 64 bits. */
const REVISION = 2;
const POWER_BUTTON_PRESSED = 0x80;
const VM_GENERATION = 'VGEN';
const GENERATION_CHANGED = 0x80;
const CMOS_PORTS = 2;

export function buildDsdt(inputs: AcpiInputs): Uint8Array {
  const sleepType = packageObject(ACPI_SLEEP_TYPE_S5, 0, 0, 0);
  const devices = [
    ...(inputs.serial ? [serialPort()] : []),
    realTimeClock(),
    powerButton(),
    ...(inputs.vmGenerationId === undefined ? [] : [vmGenerationCounter(inputs.vmGenerationId)]),
    genericEventDevice(inputs),
    processorContainer(inputs),
    ...inputs.virtio.map(virtioDevice),
    ...(inputs.pci ? pciDevices(inputs.pci) : []),
  ];
  const body = concat(nameObject('\\_S5', sleepType), scope('\\_SB', ...devices));
  return buildTable(SIGNATURE.dsdt, REVISION, HEADER.size, [Uint8Array.from(body)]);
}

function serialPort(): Aml {
  return device(
    'COM1',
    nameObject('_HID', eisaId('PNP0501')),
    nameObject('_UID', 1),
    nameObject('_CRS', resourceTemplate(ioPorts(PORT.com1, COM1_PORTS), edgeInterrupt(GSI.com1))),
  );
}

/** It has no interrupt resource, because the clock raises none: hwclock would wait for it in vain. */
function realTimeClock(): Aml {
  return device(
    'RTC',
    nameObject('_HID', eisaId('PNP0B00')),
    nameObject('_CRS', resourceTemplate(ioPorts(PORT.cmosIndex, CMOS_PORTS))),
  );
}

function powerButton(): Aml {
  return device('PWRB', nameObject('_HID', eisaId('PNP0C0C')), nameObject('_UID', 0));
}

/**
 * VM generation counter: ADDR is the address of the VM generation ID, as its low and its high 32 bits. The ID
 * changes when the guest is restored from a snapshot. Drivers find the device by its _CID; its _HID is the
 * hypervisor's own. (Microsoft, "Virtual Machine Generation ID", 2012)
 */
function vmGenerationCounter(address: number): Aml {
  return device(
    VM_GENERATION,
    nameObject('_HID', string('VOLT0001')),
    nameObject('_CID', string('VM_Gen_Counter')),
    nameObject('_DDN', string('VM_Gen_Counter')),
    nameObject('ADDR', packageObject(address % 2 ** 32, Math.floor(address / 2 ** 32))),
  );
}

/**
 * Generic event device: hardware-reduced ACPI has no general-purpose events. The guest evaluates _EVT when
 * the interrupt arrives; the event register, which is cleared by reading, holds the events. (§5.6.9)
 */
function genericEventDevice({ cpuHotplug, vmGenerationId, pci }: AcpiInputs): Aml {
  const events = local(0);
  const on = (event: number, ...body: readonly Aml[]) => ifBlock(bitAnd(events, event), ...body);
  const changed = notify(nameString(VM_GENERATION), GENERATION_CHANGED);
  return device(
    'GED',
    nameObject('_HID', string('ACPI0013')),
    nameObject('_UID', 0),
    nameObject('_CRS', resourceTemplate(edgeInterrupt(GSI.acpiEvent))),
    operationRegion('EVTR', REGION_SPACE.systemIo, PORT.acpiEvents, 1),
    field(
      'EVTR',
      { access: FIELD_ACCESS.byte, update: FIELD_UPDATE.writeAsZeros },
      { name: 'EVTS', bits: 8 },
    ),
    method(
      '_EVT',
      { args: 1, serialized: true },
      store(nameString('EVTS'), events),
      on(ACPI_EVENT.powerButton, notify(nameString('PWRB'), POWER_BUTTON_PRESSED)),
      ...(vmGenerationId === undefined ? [] : [on(ACPI_EVENT.vmGeneration, changed)]),
      ...(cpuHotplug ? [on(ACPI_EVENT.cpuHotplug, call(CPU_SCAN_METHOD))] : []),
      ...(pci ? [on(ACPI_EVENT.pciHotplug, call(PCI_SCAN_METHOD))] : []),
    ),
  );
}

/**
 * A virtio MMIO device, with the _HID of Linux's virtio_mmio driver. Its irqfd pulses the interrupt: an edge.
 */
function virtioDevice({ address, bytes, gsi }: AcpiVirtioDevice, number: number): Aml {
  return device(
    `V${number.toString(16).toUpperCase().padStart(3, '0')}`,
    nameObject('_HID', string('LNRO0005')),
    nameObject('_UID', number),
    nameObject('_CRS', resourceTemplate(fixedMemory(address, bytes), edgeInterrupt(gsi))),
  );
}

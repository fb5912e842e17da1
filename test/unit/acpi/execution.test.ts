import { describe, expect, setDefaultTimeout, test as once } from 'bun:test';
import { HEADER } from '../../../src/acpi/acpi.layout.ts';
import { buildDsdt } from '../../../src/acpi/dsdt.ts';
import { checksumByte } from '../../../src/binary/checksum.ts';
import { guestAddress } from '../../../src/machine/address.ts';
import { acpicaMissing, executeDsdt } from './acpica.ts';
import { coresOnly, cpusOf, machineOf, numaOf, virtioDevices } from './machines.ts';

/** For hangs only: far above what a test takes on a busy machine. */
setDefaultTimeout(60_000);

const HOTPLUG_4 = buildDsdt(machineOf(cpusOf(coresOnly(4), 2), { cpuHotplug: true }));
const HOTPLUG_1000 = buildDsdt(machineOf(cpusOf(coresOnly(1000), 1), { cpuHotplug: true }));
const CPUS = '\\_SB.CPUS';

/** Fills the registers so that every vCPU's status has this bit, and no others. */
const PRESENT = 0x01;

/** `dsdt` with its register `name` called XREG instead, so that a method of a second table can take its place. */
function withoutRegister(dsdt: Uint8Array, name: string): Uint8Array {
  const copy = dsdt.slice();
  copy.set(Buffer.from('XREG'), Buffer.from(dsdt).indexOf(name));
  copy[HEADER.checksum] = 0;
  copy[HEADER.checksum] = checksumByte(copy);
  return copy;
}

/** A `next` register that tells three vCPUs' events, and what of `status` was written before it moved on. */
const THREE_EVENTS = `DefinitionBlock ("", "SSDT", 2, "VOLT", "TEST", 1) {
  External (\\_SB.CPUS, DeviceObj)
  External (\\_SB.CPUS.CSTS, FieldUnitObj)
  Scope (\\_SB.CPUS) {
    Name (TODO, Package () { 2, 3, 0, 4, 3, 7, 0xFFFFFFFF })
    Name (STEP, 0)
    Name (ACKS, 0)
    Method (CNXT, 0, Serialized) {
      If (STEP > 0) { ACKS = ((ACKS << 4) | CSTS) }
      Local0 = DerefOf (TODO [STEP])
      If (Local0 != 0xFFFFFFFF) {
        CSTS = DerefOf (TODO [STEP + 1])
        STEP += 2
      }
      Return (Local0)
    }
  }
}`;

/**
 * On a busy host acpiexec now and then quits before its threads have said all they had to say; a wrong table is wrong
 * each time.
 */
const test = (name: string, body: () => void) => once(name, body, { timeout: 60_000, retry: 3 });

describe.skipIf(acpicaMissing)("the DSDT's methods, executed by ACPICA (needs acpiexec)", () => {
  test('_STA of a vCPU selects it and says what the status register says', () => {
    const commands = [`${CPUS}.C003._STA`, `${CPUS}.CSEL`];
    expect(executeDsdt(HOTPLUG_4, commands)).toEqual([0, 3]);
    expect(executeDsdt(HOTPLUG_4, commands, { fill: PRESENT })).toEqual([0x0f, 3]);
  });

  test('_MAT is the local APIC structure of the MADT: enabled when there, online-capable when not', () => {
    expect(executeDsdt(HOTPLUG_4, [`${CPUS}.C002._MAT`])).toEqual(['0008020202000000']);
    expect(executeDsdt(HOTPLUG_4, [`${CPUS}.C002._MAT`], { fill: PRESENT })).toEqual(['0008020201000000']);
  });

  test('_MAT is the x2APIC structure from id 255 on', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(300), 1), { cpuHotplug: true }));
    const commands = [`${CPUS}.C0FE._MAT`, `${CPUS}.C0FF._MAT`, `${CPUS}.C12B._MAT`];
    expect(executeDsdt(dsdt, commands)).toEqual([
      '0008fefe02000000',
      '09100000ff00000002000000ff000000',
      '091000002b010000020000002b010000',
    ]);
    expect(executeDsdt(dsdt, [`${CPUS}.C12B._MAT`], { fill: PRESENT })).toEqual([
      '091000002b010000010000002b010000',
    ]);
  });

  test('_EJ0 writes the eject bit for its vCPU, and the BSP has none', () => {
    const commands = [`${CPUS}.C001._EJ0 1`, `${CPUS}.CSEL`, `${CPUS}.CSTS`];
    const [missing] = executeDsdt(HOTPLUG_4, [`${CPUS}.C000._EJ0 1`]);
    expect(executeDsdt(HOTPLUG_4, commands)).toEqual([1, 8]);
    expect(missing).toContain('AE_NOT_FOUND');
  });

  test('_OST hands its event and its status over for its vCPU', () => {
    const registers = ['CSEL', 'CNXT', 'COSS'].map((name) => `${CPUS}.${name}`);
    expect(executeDsdt(HOTPLUG_4, [`${CPUS}.C002._OST 0x103 0x81 (00)`, ...registers])).toEqual([
      2, 0x103, 0x81,
    ]);
  });

  test('each of 1000 vCPUs is found for Notify, and an index beyond them notifies nobody', () => {
    const more = `DefinitionBlock ("", "SSDT", 2, "VOLT", "TEST", 1) {
      External (\\_SB.CPUS.CTFY, MethodObj)
      Method (ALL) { Local0 = 0 While (Local0 < 1005) { \\_SB.CPUS.CTFY (Local0, Local0 + 0x1000) Local0++ } }
    }`;
    const outcomes = executeDsdt(HOTPLUG_1000, ['\\ALL', `${CPUS}.CTFY 0xFFFFFFFE 1`], { more });
    const hex = (value: number, digits: number) => value.toString(16).toUpperCase().padStart(digits, '0');
    const expected = Array.from({ length: 1000 }, (_, i) => `C${hex(i, 3)} 0x${hex(0x1000 + i, 4)}`);
    expect(outcomes.sort().join('\n')).toBe(expected.join('\n'));
  });

  test('a CPU event notifies every vCPU that has one of insertion or removal, and acknowledges just these', () => {
    const dsdt = withoutRegister(HOTPLUG_4, 'CNXT');
    // The interpreter tells of notifications in threads of their own, in any order.
    const scan = executeDsdt(dsdt, [`${CPUS}.CSCN`, `${CPUS}.ACKS`], { more: THREE_EVENTS });
    expect(scan.sort()).toEqual([0x246, 'C000 0x03', 'C002 0x01', 'C003 0x01', 'C003 0x03']);
  });

  test('the power button is told by the event device, and with CPU events too it scans', () => {
    // Filled with ones, `next` has nobody.
    expect(executeDsdt(HOTPLUG_4, ['\\_SB.GED._EVT 9'], { fill: 0xff })).toEqual(['PWRB 0x80']);
    expect(executeDsdt(HOTPLUG_4, ['\\_SB.GED._EVT 9'], { fill: 0x02 })).toEqual(['PWRB 0x80']);
    expect(executeDsdt(HOTPLUG_4, ['\\_SB.GED._EVT 9'])).toEqual([]);
    const dsdt = withoutRegister(HOTPLUG_4, 'CNXT');
    const all = executeDsdt(dsdt, ['\\_SB.GED._EVT 9'], { fill: PRESENT, more: THREE_EVENTS });
    expect(all.sort()).toEqual(['C000 0x03', 'C002 0x01', 'C003 0x01', 'C003 0x03']);
  });

  test('a new VM generation is told by the event device, on a machine that has one', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(1)), { vmGenerationId: guestAddress(0xe_ff00) }));
    const without = buildDsdt(machineOf(cpusOf(coresOnly(1))));
    const event = ['\\_SB.GED._EVT 9'];
    expect(executeDsdt(dsdt, event, { fill: 0x04 })).toEqual(['VGEN 0x80']);
    expect(executeDsdt(dsdt, event, { fill: 0x06 }).sort()).toEqual(['PWRB 0x80', 'VGEN 0x80']);
    expect(executeDsdt(dsdt, event, { fill: 0x01 })).toEqual([]);
    expect(executeDsdt(without, event, { fill: 0x04 })).toEqual([]);
  });

  test('the VM generation counter has the ids and the address by which drivers find it', () => {
    const inputs = machineOf(cpusOf(coresOnly(1)), { vmGenerationId: guestAddress(0x1_000e_ff00) });
    const names = ['_HID', '_CID', '_DDN', 'ADDR'].map((name) => `\\_SB.VGEN.${name}`);
    expect(executeDsdt(buildDsdt(inputs), names)).toEqual([
      'VOLT0001',
      // ACPICA, and so Linux, compares ids in capital letters.
      'VM_GEN_COUNTER',
      'VM_Gen_Counter',
      0xe_ff00,
      1,
    ]);
  });

  test('the BSP need not be the first vCPU: then it is the one without _EJ0', () => {
    const [first, second] = cpusOf(coresOnly(2));
    const dsdt = buildDsdt(machineOf([second!, first!], { bootCpu: 1, cpuHotplug: true }));
    const [missing] = executeDsdt(dsdt, [`${CPUS}.C001._EJ0 1`]);
    expect(missing).toContain('AE_NOT_FOUND');
    expect(executeDsdt(dsdt, [`${CPUS}.C000._EJ0 1`, `${CPUS}.CSTS`])).toEqual([8]);
  });

  test('without hotplug an absent vCPU says so, one that is there says nothing', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(2), 1)));
    const [missing] = executeDsdt(dsdt, [`${CPUS}.C000._STA`]);
    expect(executeDsdt(dsdt, [`${CPUS}.C001._STA`])).toEqual([0]);
    expect(missing).toContain('AE_NOT_FOUND');
  });

  test('_UID and _PXM are the index and the node', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(300), 300, 3), { numa: numaOf(3) }));
    const commands = [`${CPUS}.C12B._UID`, `${CPUS}.C12B._PXM`, `${CPUS}.C001._PXM`];
    expect(executeDsdt(dsdt, commands)).toEqual([299, 2, 1]);
  });

  test('sleep type 5 is S5, and devices have the resources of the board', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(1))));
    expect(executeDsdt(dsdt, ['\\_S5'])).toEqual([5, 0, 0, 0]);
    expect(executeDsdt(dsdt, ['\\_SB.COM1._CRS', '\\_SB.RTC._CRS', '\\_SB.GED._CRS'])).toEqual([
      '4701f803f80301088906000301040000007900',
      '47017000700001027900',
      '8906000301090000007900',
    ]);
  });

  test('devices have the ids by which drivers find them', () => {
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(1)), { virtio: virtioDevices(1) }));
    const paths = ['GED', 'CPUS', 'CPUS.C000', 'V000', 'COM1', 'RTC', 'PWRB'];
    const ids = executeDsdt(dsdt, [...paths.map((name) => `\\_SB.${name}._HID`), `${CPUS}._CID`]);
    expect(ids).toEqual([
      'ACPI0013',
      'ACPI0010',
      'ACPI0007',
      'LNRO0005',
      0x0105_d041, // PNP0501, compressed
      0x000b_d041, // PNP0B00
      0x0c0c_d041, // PNP0C0C
      0x050a_d041, // PNP0A05
    ]);
  });

  test('virtio devices are numbered, each with its page and its interrupt', () => {
    const [first, second] = virtioDevices(2);
    const dsdt = buildDsdt(machineOf(cpusOf(coresOnly(1)), { virtio: [first!, { ...second!, gsi: 5 }] }));
    const names = ['V000._UID', 'V000._CRS', 'V001._UID', 'V001._CRS'];
    const commands = names.map((name) => `\\_SB.${name}`);
    expect(executeDsdt(dsdt, commands)).toEqual([
      0,
      '86090001' + '000000d0' + '00100000' + '890600030110000000' + '7900',
      1,
      '86090001' + '001000d0' + '00100000' + '890600030105000000' + '7900',
    ]);
  });
});

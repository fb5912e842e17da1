/**
 * Each table against bytes written down by hand, field for field as ACPI 6.5 lists them (SPCR: Microsoft's
 * revision 2). Checksums are left at 0 here; that they are right is asserted for every table on its own.
 */
import { describe, expect, test } from 'bun:test';
import { buildDsdt } from '../../../src/acpi/dsdt.ts';
import { buildFadt } from '../../../src/acpi/fadt.ts';
import { buildHmat } from '../../../src/acpi/hmat.ts';
import { buildMadt } from '../../../src/acpi/madt.ts';
import { buildMcfg } from '../../../src/acpi/mcfg.ts';
import { buildPptt } from '../../../src/acpi/pptt.ts';
import { buildRsdp } from '../../../src/acpi/rsdp.ts';
import { buildRsdt } from '../../../src/acpi/rsdt.ts';
import { buildSlit } from '../../../src/acpi/slit.ts';
import { buildSpcr } from '../../../src/acpi/spcr.ts';
import { buildSrat } from '../../../src/acpi/srat.ts';
import { buildXsdt } from '../../../src/acpi/xsdt.ts';
import { byteSum } from '../../../src/binary/checksum.ts';
import { guestAddress } from '../../../src/machine/address.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { coresOnly, cpusOf, machineOf, pciOf } from './machines.ts';

function ascii(text: string): string {
  return Buffer.from(text, 'latin1').toString('hex');
}

/** Signature, length, revision, checksum, OEM id, table id, OEM revision 1, creator VOLT 1. (§5.2.6) */
function header(signature: string, length: string, revision: string): string {
  return `${ascii(signature)} ${length} ${revision} 00 ${ascii('VOLT  ')} ${ascii(`VOLT${signature}`)} 01000000 ${ascii('VOLT')} 01000000`;
}

function expectBytes(table: Uint8Array, fields: readonly string[], checksums: readonly number[] = [9]): void {
  const copy = table.slice();
  for (const offset of checksums) copy[offset] = 0;
  expect(Buffer.from(copy).toString('hex')).toBe(fields.join('').replaceAll(' ', ''));
  expect(byteSum(table)).toBe(0);
}

const [CPU_0, CPU_1] = cpusOf(coresOnly(2));
const CPU_255 = { ...CPU_1!, uid: 255, apicId: 0x1ff };

test('RSDP: two checksums, RSDT and XSDT at their addresses', () => {
  const rsdp = buildRsdp(guestAddress(0xc_1230), guestAddress(0xc_4560));
  expectBytes(
    rsdp,
    [ascii('RSD PTR '), '00', ascii('VOLT  '), '02', '60450c00', '24000000', '30120c0000000000', '00', '000000'],
    [8, 32],
  );
  expect(byteSum(rsdp.subarray(0, 20))).toBe(0);
}); // prettier-ignore

test('RSDT: 4 bytes an address', () => {
  const rsdt = buildRsdt([guestAddress(0xc_0100), guestAddress(0x2345_6789)]);
  expectBytes(rsdt, [header('RSDT', '2c000000', '01'), '00010c00', '89674523']);
});

test('XSDT: 8 bytes an address', () => {
  const xsdt = buildXsdt([guestAddress(0xc_0100), guestAddress(0x1_2345_6789)]);
  expectBytes(xsdt, [header('XSDT', '34000000', '01'), '00010c0000000000', '8967452301000000']);
});

test('FADT: 276 bytes of version 6.5', () => {
  const noAddress = '00 00 00 00 0000000000000000';
  expectBytes(buildFadt(guestAddress(0xc_0060), [CPU_0!]), [
    header('FACP', '14010000', '06'),
    '00000000', // FIRMWARE_CTRL: no FACS
    '60000c00', // DSDT
    '00', // reserved
    '00', // preferred profile: unspecified
    '0000', // SCI_INT
    '00000000 00 00 00 00', // SMI_CMD, ACPI_ENABLE, ACPI_DISABLE, S4BIOS_REQ, PSTATE_CNT
    '00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000', // PM1a_EVT … GPE1
    '00 00 00 00 00 00 00 00', // lengths of those, GPE1_BASE, CST_CNT
    '0000 0000 0000 0000', // P_LVL2_LAT, P_LVL3_LAT, FLUSH_SIZE, FLUSH_STRIDE
    '00 00 00 00 32', // DUTY_OFFSET, DUTY_WIDTH, DAY_ALRM, MON_ALRM, CENTURY
    '0700', // IAPC_BOOT_ARCH: legacy devices, 8042, no VGA
    '00', // reserved
    '75141000', // WBINVD, PROC_C1, PWR_BUTTON, SLP_BUTTON, FIX_RTC, RESET_REG_SUP, HEADLESS, HW_REDUCED
    '01 08 00 01 f90c000000000000 06', // RESET_REG: I/O, 8 bits, byte access, 0xCF9; RESET_VALUE
    '0000 05', // ARM_BOOT_ARCH, minor version
    '0000000000000000 60000c0000000000', // X_FIRMWARE_CTRL, X_DSDT
    noAddress.repeat(8), // X_PM1a_EVT … X_GPE1
    '01 08 00 01 0006000000000000', // SLEEP_CONTROL_REG
    '01 08 00 01 0106000000000000', // SLEEP_STATUS_REG
    '564f4c5400000000', // hypervisor vendor
  ]);
});

describe('MADT', () => {
  const rest = [
    '01 0c 00 00 0000c0fe 00000000', // I/O APIC 0 at 0xFEC00000 from GSI 0
    '02 0a 00 09 09000000 0500', // ISA IRQ 9 is GSI 9, active high, edge
  ];

  test('two CPUs, the second of which may be plugged', () => {
    expectBytes(buildMadt({ cpus: [CPU_0!, { ...CPU_1!, present: false }], cpuHotplug: true }), [
      header('APIC', '58000000', '06'),
      '0000e0fe 01000000', // local APICs at 0xFEE00000; there are 8259s
      '00 08 00 00 01000000', // local APIC: UID 0, id 0, enabled
      '00 08 01 01 02000000', // online-capable
      ...rest,
      '04 06 ff 0000 01', // NMI of all on LINT1
    ]);
  });

  test('a CPU with an id above 255, and one that is never there', () => {
    expectBytes(buildMadt({ cpus: [{ ...CPU_0!, present: false }, CPU_255], cpuHotplug: false }), [
      header('APIC', '6c000000', '06'),
      '0000e0fe 01000000',
      '00 08 00 00 00000000',
      '09 10 0000 ff010000 01000000 ff000000', // x2APIC: id 0x1FF, enabled, UID 255
      ...rest,
      '04 06 ff 0000 01',
      '0a 0c 0000 ffffffff 01 000000', // the same for x2APICs
    ]);
  });
});

test('SRAT: a CPU of each kind, memory below and above 4 GiB', () => {
  const memory = [
    { address: guestAddress(0), bytes: 0xc000_0000, node: 0 },
    { address: guestAddress(0x1_0000_0000), bytes: 0x2_4000_0000, node: 0x0102_0304 },
  ];
  expectBytes(
    buildSrat(
      [
        { ...CPU_1!, node: 0x0102_0304 },
        { ...CPU_255, node: 1 },
      ],
      memory,
    ),
    [
      header('SRAT', 'a8000000', '03'),
      '01000000 0000000000000000',
      '00 10 04 01 01000000 00 030201 00000000', // local APIC 1 of domain 0x01020304
      '02 18 0000 01000000 ff010000 01000000 00000000 00000000', // x2APIC 0x1FF of domain 1
      '01 28 00000000 0000 0000000000000000 000000c000000000 00000000 01000000 0000000000000000',
      '01 28 04030201 0000 0000000001000000 0000004002000000 00000000 01000000 0000000000000000',
    ],
  );
});

test('SLIT: a byte for each pair', () => {
  const distances = [[10, 20, 255], [21, 10, 30], [255, 31, 10]]; // prettier-ignore
  expectBytes(buildSlit(distances), [
    header('SLIT', '35000000', '01'),
    '0300000000000000',
    '0a14ff 150a1e ff1f0a',
  ]);
});

describe('HMAT', () => {
  const memory = [0, 1].map((node) => ({ address: guestAddress(node * 2 ** 32), bytes: 2 ** 32, node }));
  const distances = [[10, 20], [20, 10]]; // prettier-ignore

  test('latency in units of 1000 ps, bandwidth in tens of MB/s where it needs more than 16 bits', () => {
    const cpus = [{ ...CPU_0!, node: 0 }, { ...CPU_1!, node: 1 }]; // prettier-ignore
    const latency = [[80, 140], [141, 81]]; // prettier-ignore
    const bandwidth = [[120_000, 60_000], [60_010, 120_020]]; // prettier-ignore
    const lists = '02000000 02000000 00000000';
    const nodes = '00000000 01000000 00000000 01000000';
    expectBytes(buildHmat(cpus, { memory, distances, latency, bandwidth }), [
      header('HMAT', 'e8000000', '02'),
      '00000000',
      '0000 0000 28000000 0100 0000 00000000 00000000 00000000 0000000000000000 0000000000000000',
      '0000 0000 28000000 0100 0000 01000000 01000000 00000000 0000000000000000 0000000000000000',
      `0100 0000 38000000 00 00 00 00 ${lists} e803000000000000 ${nodes} 5000 8c00 8d00 5100`,
      `0100 0000 38000000 00 03 00 00 ${lists} 0a00000000000000 ${nodes} e02e 7017 7117 e22e`,
    ]);
  });

  test('memory of a node without CPUs belongs to the nearest that has some', () => {
    const cpus = [{ ...CPU_0!, node: 0 }, { ...CPU_1!, node: 1 }]; // prettier-ignore
    const remote = [{ address: guestAddress(0), bytes: 4096, node: 2 }];
    const away = [[10, 20, 40], [20, 10, 30], [40, 30, 10]]; // prettier-ignore
    const latency = [[1, 1, 70_000], [1, 1, 50_000], [1, 1, 1]]; // prettier-ignore
    expectBytes(buildHmat(cpus, { memory: remote, distances: away, latency }), [
      header('HMAT', '80000000', '02'),
      '00000000',
      '0000 0000 28000000 0100 0000 01000000 02000000 00000000 0000000000000000 0000000000000000',
      '0100 0000 30000000 00 00 00 00 02000000 01000000 00000000 1027000000000000',
      '00000000 01000000 02000000 581b 8813', // 7000 and 5000 times 10 ns
    ]);
  });
});

describe('PPTT', () => {
  test('cores of one socket are the leaves', () => {
    expectBytes(buildPptt([CPU_0!, CPU_1!]), [
      header('PPTT', '60000000', '03'),
      '00 14 0000 11000000 00000000 00000000 00000000', // a package, alike inside
      '00 14 0000 0a000000 24000000 00000000 00000000', // processor 0 of the package at 0x24
      '00 14 0000 0a000000 24000000 01000000 00000000',
    ]);
  });

  test('dies and threads are levels where there are several', () => {
    const topology = { sockets: 1, diesPerSocket: 2, coresPerDie: 1, threadsPerCore: 2 };
    expectBytes(buildPptt(cpusOf(topology)), [
      header('PPTT', 'd8000000', '03'),
      '00 14 0000 11000000 00000000 00000000 00000000', // 0x24: package
      '00 14 0000 10000000 24000000 00000000 00000000', // 0x38: die 0
      '00 14 0000 10000000 38000000 00000000 00000000', // 0x4C: its core
      '00 14 0000 0e000000 4c000000 00000000 00000000', // thread, processor 0
      '00 14 0000 0e000000 4c000000 01000000 00000000',
      '00 14 0000 10000000 24000000 00000000 00000000', // 0x88: die 1
      '00 14 0000 10000000 88000000 00000000 00000000', // 0x9C: its core
      '00 14 0000 0e000000 9c000000 02000000 00000000',
      '00 14 0000 0e000000 9c000000 03000000 00000000',
    ]);
  });
});

test('SPCR: COM1 at 115200', () => {
  expectBytes(buildSpcr(), [
    header('SPCR', '50000000', '02'),
    '00 000000', // 16550
    '01 08 00 01 f803000000000000', // I/O, 8 bits, byte access, 0x3F8
    '03 04 04000000', // 8259 and I/O APIC; IRQ 4; GSI 4
    '07 00 01 00 02 00', // 115200, no parity, 1 stop bit, no flow control, VT-UTF8, reserved
    'ffff ffff 00 00 00', // no PCI device, bus, device, function
    '00000000 00 00000000', // PCI flags, segment, reserved
  ]);
});

test('DSDT: the VM generation counter, with the address of the ID as two integers of 32 bits', () => {
  const vmGenerationId = LAYOUT.vmGenerationId.address;
  const dsdt = buildDsdt(machineOf([CPU_0!], { vmGenerationId }));
  const ids = `0d ${ascii('VM_Gen_Counter')} 00`;
  const device = [
    `5b82 4d04 ${ascii('VGEN')}`, // Device, 0x4D bytes
    `08 ${ascii('_HID')} 0d ${ascii('VOLT0001')} 00`,
    `08 ${ascii('_CID')} ${ids} 08 ${ascii('_DDN')} ${ids}`,
    `08 ${ascii('ADDR')} 12 08 02 0c 00ff0e00 00`, // Package of 2: DWordConst, ZeroOp
  ];
  const notification = `a0 0d 7b 60 0a04 00 86 ${ascii('VGEN')} 0a80`; // If (Local0 & 4) Notify (VGEN, 0x80)
  const bytes = Buffer.from(dsdt).toString('hex');
  expect(bytes).toContain(device.join('').replaceAll(' ', ''));
  expect(bytes).toContain(notification.replaceAll(' ', ''));
  expect(byteSum(dsdt)).toBe(0);
});

test('MCFG: one allocation for segment 0 and all buses', () => {
  expectBytes(buildMcfg(pciOf(2)), [
    header('MCFG', '3c000000', '01'), '0000000000000000',
    '000000e000000000', '0000', '00', '01', '00000000',
  ]);
}); // prettier-ignore

test('the resources of a host bridge: bus numbers, configuration ports, memory below 4 GiB and above', () => {
  const dsdt = Buffer.from(buildDsdt(machineOf([CPU_0!], { pci: pciOf(1) }))).toString('hex');
  const resources = [
    '880d00 02 0c 00 0000 0000 0000 0000 0100',
    '4701 f80c f80c 01 08',
    '871700 00 0c 01 00000000 000000c0 ffffffc7 00000000 00000008',
    '8a2b00 00 0c 01 0000000000000000 0000000001000000 ffffffff02000000 0000000000000000 0000000002000000',
    '7900',
  ]; // prettier-ignore
  expect(dsdt).toContain(resources.join('').replaceAll(' ', ''));
});

/** `volt inspect`: prints the structures that Volt would build, the state in a snapshot, or MP tables in a file. */
import { statSync } from 'node:fs';
import {
  dumpWrites,
  EXIT_CODE,
  inspectFile,
  inspectMachine,
  type Inspection,
  VoltError,
  type MpInspection,
} from '../api/index.ts';
import { createLog, setLogFormat, type Log } from './log.ts';
import { writeStdout } from './output.ts';
import { toConfig, type MachineFlags } from './machine-options.ts';

export interface InspectFlags extends MachineFlags {
  readonly json?: true | undefined;
  readonly dump?: string | undefined;
  readonly from?: string | undefined;
}

/** Returns the exit code: 0, or 1 if a check failed or the host does not suit the snapshot. */
export async function inspect(snapshot: string | undefined, flags: InspectFlags): Promise<number> {
  setLogFormat(flags.logFormat);
  const guest = snapshot !== undefined && (await isGuest(snapshot)) ? snapshot : undefined;
  if (snapshot !== undefined) refuseMachineFlags(flags, guest === undefined ? 'a snapshot' : 'a guest');
  else if (flags.from !== undefined) refuseMachineFlags(flags, '--from');
  const log = createLog(flags.logLevel);
  const { result, lines, problems } =
    guest === undefined ? await inspectAny(snapshot, flags, log) : await inspectGuest(guest, log);
  writeStdout(flags.json ? `${JSON.stringify(result, null, 2)}\n` : `${lines().join('\n')}\n`);
  for (const problem of problems) log.error(problem);
  return problems.length === 0 ? EXIT_CODE.ok : EXIT_CODE.failed;
}

/** Whether the word names a guest; a folder of that name is then called ./NAME. */
async function isGuest(word: string): Promise<boolean> {
  if (/^\d+$/.test(word)) return true;
  const { isGuestName } = await import('../api/guests/guest-name.ts');
  if (!isGuestName(word)) return false;
  const [{ findDefinition }, { findRunning }] = await Promise.all([
    import('../api/guests/definitions.ts'),
    import('../api/guests/running-guest.ts'),
  ]);
  return findRunning(word) !== undefined || findDefinition(word) !== undefined;
}

async function inspectGuest(guest: string, log: Log): Promise<Inspected> {
  const { describeGuest, formatGuest } = await import('./inspect-guest.ts');
  const { config, about } = await describeGuest(guest);
  const { inspection } = inspectMachine(config);
  for (const warning of inspection.warnings) log.warn(warning);
  return {
    result: { guest: about, ...inspection },
    problems: inspection.problems,
    lines: () => [...formatGuest(about), '', ...formatInspection(inspection)],
  };
}

async function inspectAny(snapshot: string | undefined, flags: InspectFlags, log: Log): Promise<Inspected> {
  if (snapshot !== undefined) {
    if (flags.from !== undefined)
      throw new VoltError('usage', 'Cannot use --from with a snapshot to decode: use one of them');
    const { inspectSnapshot } = await import('../api/inspect-snapshot.ts');
    const { formatSnapshot } = await import('./inspect-snapshot.ts');
    const result = inspectSnapshot(snapshot);
    return { result, problems: result.problems, lines: () => formatSnapshot(result) };
  }
  if (flags.from === undefined) return inspectConfigured(flags, log);
  if (!statSync(flags.from, { throwIfNoEntry: false })?.isDirectory()) return inspectGivenFile(flags.from);
  const { compareSnapshot } = await import('../api/inspect-snapshot.ts');
  const { formatComparison, refusalOf } = await import('./inspect-snapshot.ts');
  const result = compareSnapshot(flags.from);
  return { result, problems: refusalOf(result, flags.from), lines: () => formatComparison(result) };
}

/** Flags without an effect where no machine is planned. */
function refuseMachineFlags(flags: InspectFlags, instead: string): void {
  const { from: _from, json: _json, logLevel: _level, logFormat: _format, ...machine } = flags;
  const isDefault = (key: string, value: unknown) =>
    value === undefined || (value === true && ['acpi', 'mptable', 'reboot'].includes(key));
  const given = Object.entries(machine).find(([key, value]) => !isDefault(key, value));
  if (!given) return;
  const name = given[0].replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new VoltError(
    'usage',
    `Cannot use --${given[1] === false ? 'no-' : ''}${name} with ${instead}: it has no effect on a file; leave it out`,
  );
}

interface Inspected {
  readonly result: object;
  readonly problems: readonly string[];
  readonly lines: () => string[];
}

function inspectConfigured(flags: InspectFlags, log: Log): Inspected {
  const { inspection, writes } = inspectMachine(toConfig(flags, log));
  for (const warning of inspection.warnings) log.warn(warning);
  if (flags.dump !== undefined) for (const path of dumpWrites(writes, flags.dump)) log.info(`wrote ${path}`);
  return { result: inspection, problems: inspection.problems, lines: () => formatInspection(inspection) };
}

function inspectGivenFile(path: string): Inspected {
  const result = inspectFile(path);
  return { result, problems: result.problems, lines: () => formatMp(result.mpTables) };
}

function formatInspection(inspection: Inspection): string[] {
  return [
    `Boot      ${inspection.boot.summary}`,
    `Cmdline   ${inspection.boot.cmdline}`,
    '',
    'Memory map',
    ...inspection.map.map(
      (row) =>
        `  ${range(row.address, row.bytes)}  ${row.name}${row.from === 'volt' ? '' : ` (from --${row.from})`}`,
    ),
    '',
    'E820',
    ...inspection.e820.map(
      (row) => `  ${range(row.address, row.bytes)}  ${row.type === 1 ? 'RAM' : 'reserved'}`,
    ),
    '',
    ...(inspection.mpTables ? formatMp(inspection.mpTables) : ['MP tables none']),
    '',
    ...formatAcpi(inspection),
    '',
    'CPUs      socket die core thread node  APIC id  CPUID',
    ...inspection.cpus.map(formatCpu),
    '',
    ...formatDevices(inspection),
    ...formatPmem(inspection),
    ...formatEntry(inspection),
    '',
    inspection.problems.length === 0
      ? 'Checks    checksums, counts, ids and overlaps: no problems'
      : 'Checks    problems, listed below',
  ];
}

function formatAcpi({ acpi }: Inspection): string[] {
  if (!acpi) return ['ACPI      none'];
  const total = acpi.tables.reduce((sum, table) => sum + table.bytes, 0);
  const lines = [
    `ACPI      ${total} bytes in ${acpi.tables.length} tables, RSDP at ${address(acpi.rsdp ?? 0)}`,
  ];
  for (const { signature, address: at, bytes, revision } of acpi.tables)
    lines.push(`  ${signature}  ${range(at, bytes)}  revision ${revision}`);
  acpi.distances?.forEach((row, node) => {
    const memory = acpi.srat?.memory.filter((piece) => piece.node === node) ?? [];
    const bytes = memory.reduce((sum, piece) => sum + piece.bytes, 0);
    lines.push(`  node ${node}: ${size(bytes)}, distances ${row.join(' ')}`);
  });
  return lines;
}

function formatMp(mpTables: MpInspection): string[] {
  const { floatingPointer, configTable } = mpTables;
  const lines = [`MP tables ${mpTables.bytes} bytes, floating pointer and configuration table`];
  if (floatingPointer) {
    lines.push(
      `  floating pointer at ${address(mpTables.floatingPointerAddress)} -> table at ${address(floatingPointer.configTable)}, revision 1.${floatingPointer.revision}, ${floatingPointer.imcr ? 'PIC mode (IMCR)' : 'virtual wire mode'}`,
    );
  }
  if (!configTable) return lines;
  lines.push(
    `  configuration table of ${configTable.bytes} bytes: OEM "${configTable.oemId}", product "${configTable.productId}", local APICs at ${address(configTable.localApicAddress)}, ${configTable.entries.length} entries`,
  );
  for (const entry of configTable.entries) {
    switch (entry.type) {
      case 'processor':
        lines.push(
          `    processor     APIC id ${entry.apicId}, version 0x${entry.apicVersion.toString(16)}${entry.bootstrap ? ', BSP' : ''}${entry.enabled ? '' : ', disabled'}`,
        );
        break;
      case 'bus':
        lines.push(`    bus           ${entry.id}: ${entry.name}`);
        break;
      case 'io-apic':
        lines.push(
          `    I/O APIC      id ${entry.id}, version 0x${entry.version.toString(16)} at ${address(entry.address)}`,
        );
        break;
      default:
        lines.push(
          `    ${entry.type === 'io-interrupt' ? 'interrupt    ' : 'local int.   '} bus ${entry.sourceBus} IRQ ${entry.sourceIrq} -> APIC ${entry.destinationApic} pin ${entry.destinationPin}, ${entry.kind}`,
        );
    }
  }
  return lines;
}

function formatCpu(cpu: Inspection['cpus'][number]): string {
  const levels = cpu.cpuid.levels
    .map((level) => `${level.type} ${level.logicalProcessors}>>${level.shift}`)
    .join(', ');
  const place = [cpu.socket, cpu.die, cpu.core, cpu.thread]
    .map((n, i) => String(n).padStart([6, 3, 4, 6][i]!))
    .join(' ');
  const role = cpu.bsp ? ' BSP' : cpu.present ? '' : ' off';
  return `  ${`${cpu.index}${role}`.padEnd(7)} ${place} ${String(cpu.node ?? '-').padStart(4)}  ${String(cpu.apicId).padStart(7)}  ${levels}`;
}

function formatDevices({ devices, pci }: Inspection): string[] {
  if (pci) return formatPci(pci, devices);
  if (devices.length === 0) return [];
  const rows = devices.map(
    ({ id, kind, address: at, bytes, gsi }) =>
      `  ${range(at, bytes)}  GSI ${String(gsi).padStart(2)}  ${kind} ${id}`,
  );
  return ['Devices   virtio MMIO', ...rows, ''];
}

function formatPci(
  { ecam, buses }: NonNullable<Inspection['pci']>,
  devices: Inspection['devices'],
): string[] {
  const windows = buses.flatMap(({ number, windows: each }) =>
    each.map(({ address: at, bytes }) => `  ${range(at, bytes)}  memory of bus ${number}`),
  );
  const rows = devices.map(
    ({ id, kind, address: at, bytes, gsi, pciName }) =>
      `  ${range(at, bytes)}  ${pciName}  INTA# GSI ${String(gsi).padStart(2)}  ${kind} ${id}`,
  );
  return ['Devices   virtio PCI', `  ${range(ecam.address, ecam.bytes)}  ECAM`, ...windows, ...rows, ''];
}

function formatPmem({ pmem }: Inspection): string[] {
  if (pmem.length === 0) return [];
  const rows = pmem.map(
    ({ id, address: at, bytes, fileBytes }) =>
      `  ${range(at, bytes)}  ${id}${fileBytes < bytes ? `, of which the file has ${fileBytes} bytes` : ''}`,
  );
  return ['Persistent memory', ...rows, ''];
}

function formatEntry({ entry }: Inspection): string[] {
  const registers = (['rip', 'rsp', 'rax', 'rbx', 'rsi'] as const).map(
    (name) => `${name} ${address(entry[name])}`,
  );
  const control = (['cr0', 'cr3', 'cr4', 'efer'] as const).map((name) => `${name} ${address(entry[name])}`);
  const mode = entry.mode === 'long' ? '64-bit long mode' : '32-bit protected mode';
  return [
    `Entry     ${mode}`,
    `  ${registers.join('  ')}`,
    `  ${control.join('  ')}  cs 0x${entry.code.selector.toString(16)}`,
  ];
}

function range(start: number, bytes: number): string {
  return `${address(start, 9)}-${address(start + bytes - 1, 9)} ${size(bytes).padStart(9)}`;
}

function address(value: number, digits = 0): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}

function size(bytes: number): string {
  if (bytes >= 2 ** 20) return `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;
  return bytes >= 2 ** 10 ? `${Number((bytes / 2 ** 10).toFixed(1))} KiB` : `${bytes} B`;
}

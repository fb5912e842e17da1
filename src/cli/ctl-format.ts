/** Formats answers of the control socket as text. */
import type { ControlResult } from '../api/index.ts';

const MIB = 1024 * 1024;
/** `--json` has all. */
const SHOWN_EXIT_REASONS = 3;

/** Columns as wide as they need to be; those in `right` are aligned to the right. */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
): string {
  const all = [header, ...rows.map((row) => row.map(printable))];
  const widths = header.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        right.includes(column) ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd();
  return `${all.map(line).join('\n')}\n`;
}

export function formatStatus(status: ControlResult<'status'>): string {
  const rows = [
    ['state', status.state],
    ['process', String(status.pid)],
    ['uptime', formatDuration(status.uptimeMs)],
    ['vCPUs', vcpuCount(status)],
    ['memory', `${status.memoryBytes / MIB} MiB`],
    ['kernel', printable(status.kernel)],
  ] as const;
  return rows.map(([name, value]) => `${name.padEnd(7)}  ${value}\n`).join('');
}

function vcpuCount({ vcpus, maxVcpus }: ControlResult<'status'>): string {
  return maxVcpus > vcpus ? `${vcpus} of at most ${maxVcpus}` : String(vcpus);
}

export function formatVcpus(vcpus: ControlResult<'vcpus'>): string {
  const rows = vcpus.map((vcpu) => [
    String(vcpu.index),
    String(vcpu.apicId),
    vcpu.bsp ? 'BSP' : 'AP',
    vcpu.state,
    formatMpState(vcpu),
    vcpu.threadId === 0 ? '-' : String(vcpu.threadId),
    formatCpuList(vcpu.affinity),
    formatExits(vcpu.exits),
    formatPlace(vcpu),
  ]);
  const header = ['VCPU', 'APIC', 'ROLE', 'STATE', 'MP STATE', 'THREAD', 'HOST CPUS', 'EXITS', 'RIP'];
  return formatTable(header, rows, [0, 1, 5]);
}

export function formatMemory(memory: ControlResult<'memory'>): string {
  const { baseMib, pluggedMib, requestedMib, totalMib, blockMib } = memory;
  const rows: [string, number][] = [
    ['memory', baseMib + pluggedMib],
    ['requested', baseMib + requestedMib],
    ['at the start', baseMib],
    ['at most', baseMib + totalMib],
    ['block', blockMib],
  ];
  return rows.map(([name, mib]) => `${name.padEnd(24)}${mib} MiB\n`).join('');
}

export function formatBalloon(balloon: ControlResult<'balloon'>): string {
  const { wantedMib, actualMib, inflatedBytes, reportedBytes, stats } = balloon;
  const rows: [string, string][] = [
    ['requested size', `${wantedMib} MiB`],
    ['actual size', `${actualMib} MiB`],
    ['released by the balloon', `${inflatedBytes} bytes`],
    ['released as free pages', `${reportedBytes} bytes`],
    ...Object.entries(stats).map(([name, value]): [string, string] => [printable(name), String(value)]),
  ];
  return rows.map(([name, value]) => `${name.padEnd(24)}${value}\n`).join('');
}

export function formatDevices(devices: ControlResult<'devices'>): string {
  const rows = devices.flatMap((device) =>
    device.queues.map((queue, i) => [
      ...(i === 0
        ? [device.id, device.kind, `0x${device.address.toString(16)}`, String(device.gsi)]
        : ['', '', '', '']),
      i === 0 ? device.state : '',
      `${queue.index}`,
      `${queue.size}/${queue.maxSize}`,
      formatCount(queue.chains, String),
      formatCount(queue.bytesFromGuest, formatBytes),
      formatCount(queue.bytesToGuest, formatBytes),
      formatCount(queue.kicks, String),
      formatCount(queue.interrupts, String),
      formatCount(queue.errors, String),
    ]),
  );
  const header = [
    'ID',
    'KIND',
    'ADDRESS',
    'GSI',
    'STATE',
    'QUEUE',
    'SIZE',
    'REQUESTS',
    'FROM GUEST',
    'TO GUEST',
    'KICKS',
    'INTERRUPTS',
    'ERRORS',
  ];
  const table = formatTable(header, rows, [3, 5, 6, 7, 8, 9, 10, 11, 12]);
  const notes = devices.flatMap(({ id, features, failure }) => [
    `${printable(id)}: ${features.length === 0 ? 'no features' : features.map(printable).join(', ')}\n`,
    ...(failure === undefined ? [] : [`${printable(id)}: failed: ${printable(failure)}\n`]),
  ]);
  return `${table}${notes.join('')}`;
}

/** Counters are undefined for a device that another process serves. */
function formatCount(count: number | undefined, format: (count: number) => string): string {
  return count === undefined ? '-' : format(count);
}

/** `1536` → `1.5 KiB`. */
function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit++;
  }
  return `${unit === 0 ? bytes : bytes.toFixed(1)} ${units[unit]}`;
}

interface Place {
  readonly rip?: string | undefined;
  readonly symbol?: string | undefined;
}

/** `0xffffffff81c00a13 default_idle+0x13` */
export function formatPlace({ rip, symbol }: Place): string {
  if (rip === undefined) return '-';
  return symbol === undefined ? rip : `${rip} ${symbol}`;
}

/** A line per vCPU; `symbolOf`, if given, takes precedence over the symbols of the guest's process. */
export function formatWhere(
  vcpus: ControlResult<'vcpus'>,
  symbolOf?: (address: bigint) => string | undefined,
): string {
  const rows = withSymbols(vcpus, symbolOf).map((vcpu) => [
    String(vcpu.index),
    vcpu.state,
    vcpu.rip ?? '-',
    vcpu.symbol ?? '-',
  ]);
  return formatTable(['VCPU', 'STATE', 'RIP', 'SYMBOL'], rows, [0]);
}

/** The same vCPUs, with symbols from `symbolOf`. */
export function withSymbols(
  vcpus: ControlResult<'vcpus'>,
  symbolOf: ((address: bigint) => string | undefined) | undefined,
): ControlResult<'vcpus'> {
  if (!symbolOf) return vcpus;
  return vcpus.map(({ symbol: _, ...vcpu }) => {
    const symbol = vcpu.rip === undefined ? undefined : symbolOf(BigInt(vcpu.rip));
    return symbol === undefined ? vcpu : { ...vcpu, symbol };
  });
}

/** `sipi-received 0x08`: with the SIPI's vector. */
export function formatMpState({
  mpState,
  sipiVector,
}: {
  readonly mpState?: string | undefined;
  readonly sipiVector?: number | undefined;
}): string {
  if (mpState === undefined) return '-';
  return sipiVector === undefined ? mpState : `${mpState} 0x${sipiVector.toString(16).padStart(2, '0')}`;
}

export function formatRegs({ general, special, ...mp }: ControlResult<'regs'>): string {
  const group = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([name, value]) => `${printable(name).padEnd(8)}  ${printable(value)}\n`);
  return [
    ...group(general),
    '\n',
    ...group(special),
    `\n${'mpState'.padEnd(8)}  ${printable(formatMpState(mp))}\n`,
  ].join('');
}

/** `90061000` → `1d 1h`: the two largest units. */
export function formatDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 60) return `${(Math.floor(ms / 100) / 10).toFixed(1)}s`;
  const units = [
    [Math.floor(seconds / 86400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ] as const;
  const first = units.findIndex(([count]) => count > 0);
  return units
    .slice(first, first + 2)
    .map(([count, unit]) => `${count}${unit}`)
    .join(' ');
}

/** `[0, 1, 2, 5]` → `0-2,5`: the kernel's cpulist format. */
export function formatCpuList(cpus: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const cpu of [...cpus].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last && cpu <= last[1] + 1) last[1] = cpu;
    else ranges.push([cpu, cpu]);
  }
  if (ranges.length === 0) return '-';
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(',');
}

function formatExits(exits: Readonly<Record<string, number>>): string {
  const sorted = Object.entries(exits).sort(([, a], [, b]) => b - a);
  const total = sorted.reduce((sum, [, count]) => sum + count, 0);
  const shown = sorted.slice(0, SHOWN_EXIT_REASONS).map(([reason, count]) => `${reason} ${count}`);
  return shown.length === 0
    ? '0'
    : `${total} (${shown.join(', ')}${sorted.length > shown.length ? ', …' : ''})`;
}

/** Replaces control characters in text from a guest's process. */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

export function formatCpuChange({ present, added, removed, unanswered }: ControlResult<'cpus'>): string {
  const what = [
    ...(added.length > 0 ? [`added ${added.join(', ')}`] : []),
    ...(removed.length > 0 ? [`removed ${removed.join(', ')}`] : []),
    ...(unanswered.length > 0 ? [`not acknowledged by the guest: ${unanswered.join(', ')}`] : []),
  ];
  return `${present} vCPUs${what.length > 0 ? `: ${what.join('; ')}` : ''}\n`;
}

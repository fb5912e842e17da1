/** `volt inspect DIR` and `volt inspect --from DIR`: a snapshot as text. */
import type { SnapshotComparison, SnapshotInspection } from '../api/inspect-snapshot.ts';
import { printable } from './ctl-format.ts';

/** Columns of a line; what is longer continues on the next one. */
const WIDTH = 100;
/** Width of the titles at the left edge. */
const TITLE = 10;
const CONTINUED = ' '.repeat(9);

type VcpuDescription = SnapshotInspection['vcpus'][number];
type DeviceDescription = SnapshotInspection['devices'][number];
type LapicDescription = VcpuDescription['lapic'];

export function formatSnapshot(snapshot: SnapshotInspection): string[] {
  const { memory, clock, cpu, problems, vmGenerationIdAddress } = snapshot;
  const lines = [
    title('Snapshot', snapshot.id),
    title(
      'Taken',
      `${snapshot.createdAt.replace('T', ' ').replace(/\.\d+Z/, ' UTC')} by Volt ${printable(snapshot.volt)}`,
    ),
    title('Boot', snapshot.protocol),
    formatCpu('CPU', cpu),
    title('Memory', `${size(memory.bytes)} in ${count(memory.layers.length, 'layer')}`),
    ...memory.regions.map(({ address, bytes }) => `  ${range(address, bytes)}  ${size(bytes)}`),
    ...memory.layers.map(({ file, bytes, runs }, i) => {
      const disk = snapshot.onDisk[i];
      const holds = runs === undefined ? 'all of RAM' : `${size(bytes)} in ${count(runs, 'run')}`;
      return `  ${file}  ${holds}, ${disk === undefined ? 'missing' : `${size(disk)} on disk`}`;
    }),
    ...(vmGenerationIdAddress === undefined
      ? []
      : [title('VM ID', `VM generation ID at ${hex(vmGenerationIdAddress)}`)]),
    title('Clock', formatClock(clock)),
    title('Config', ''),
    ...Object.entries(snapshot.config).map(([name, value]) =>
      cut(`  ${printable(name).padEnd(18)}  ${printable(JSON.stringify(value) ?? '')}`),
    ),
    '',
    ...snapshot.vcpus.flatMap(formatVcpu),
    ...formatBoard(snapshot),
    ...formatDevices(snapshot.devices),
    '',
    title(
      'Checks',
      problems.length === 0 ? 'checksum, bounds and files: no problems' : 'problems, listed below',
    ),
  ];
  return lines.flatMap(fit);
}

function formatCpu(name: string, { model, brand }: SnapshotInspection['cpu']): string {
  return title(name, `${printable(model)}${brand === '' ? '' : ` (${printable(brand)})`}`);
}

function formatClock({ kvmclockNs, tscStable, realtimeNs, hostTsc }: SnapshotInspection['clock']): string {
  const host = realtimeNs === undefined ? '' : `, host time ${new Date(realtimeNs / 1e6).toISOString()}`;
  const tsc = hostTsc === undefined ? '' : `, host TSC ${hostTsc}`;
  return `kvmclock ${(kvmclockNs / 1e9).toFixed(9)} s${tscStable ? ', stable' : ''}${host}${tsc}`;
}

const REGISTER_ROWS = [
  ['rax', 'rbx', 'rcx', 'rdx'],
  ['rsi', 'rdi', 'rbp', 'rsp'],
  ['r8', 'r9', 'r10', 'r11'],
  ['r12', 'r13', 'r14', 'r15'],
] as const;

function formatVcpu(vcpu: VcpuDescription): string[] {
  const { registers, control, controlBits, segments, tables, lapic, events, fpu, debug } = vcpu;
  const paging = vcpu.pagingLevels === 0 ? 'no paging' : `${vcpu.pagingLevels}-level paging`;
  const role = `${lapic.bsp ? ', BSP' : ''}${vcpu.parked ? ', parked' : ''}`;
  const wide = (name: string) => `${name.padEnd(4)} ${(registers[name] ?? '0x0').slice(2).padStart(16, '0')}`;
  const bits = (name: string) =>
    `  ${name.padEnd(6)} ${control[name]}: ${(controlBits[name] ?? []).join(' ')}`;
  const names = Object.keys(segments);
  return [
    title(`vCPU ${vcpu.index}`, `APIC id ${vcpu.apicId}${role}, ${vcpu.mpState}, ${vcpu.mode}, ${paging}`),
    `  rip    ${registers['rip']}  rflags ${registers['rflags']}: ${vcpu.flags.join(' ')}`,
    ...REGISTER_ROWS.map((row) => `  ${row.map(wide).join('  ')}`),
    bits('cr0'),
    `  cr2    ${control['cr2']}  cr3 ${control['cr3']}  cr8 ${control['cr8']}`,
    bits('cr4'),
    bits('efer'),
    ...names.map((name) => formatSegment(name, segments[name]!)),
    ...(['gdt', 'idt'] as const).map(
      (name) => `  ${name.padEnd(6)} base ${tables[name].base}  limit ${hex(tables[name].limit)}`,
    ),
    ...formatLapic(lapic),
    `  events ${events.join(', ') || 'none'}`,
    `  FPU    ${count(fpu.bytes, 'byte')}, XCR0 ${fpu.xcr0 ?? 'none'}, in use: ${fpu.components.join(' ')}`,
    ...(debug
      ? [
          `  debug  ${Object.entries(debug)
            .map(([name, value]) => `${name}=${value}`)
            .join(' ')}`,
        ]
      : []),
    `  TSC    ${vcpu.tscKhz === 0 ? 'frequency unknown' : `${vcpu.tscKhz} kHz`}`,
    ...(vcpu.nestedBytes === undefined ? [] : [`  nested ${count(vcpu.nestedBytes, 'byte')} of state`]),
    ...formatMsrs(vcpu.msrs),
    '',
  ];
}

function formatSegment(name: string, segment: VcpuDescription['segments'][string]): string {
  if (segment.kind === 'unusable') return `  ${name.padEnd(6)} ${hex(segment.selector)} unusable`;
  const selector = hex(segment.selector).padEnd(6);
  const base = segment.base.padEnd(18);
  return `  ${name.padEnd(6)} ${selector} base ${base}  limit ${hex(segment.limit).padEnd(10)}  ${segment.kind} DPL ${segment.dpl}`;
}

function formatLapic(lapic: LapicDescription): string[] {
  const { lvt, timer } = lapic;
  const state = lapic.softwareEnabled ? 'enabled' : 'disabled by software';
  const entries = Object.entries(lvt).map(([name, { vector, mode, masked }]) => {
    const delivery = mode === 'fixed' ? hex(vector) : mode;
    return `${name} ${masked ? 'masked' : delivery}`;
  });
  return [
    `  LAPIC  ${lapic.mode}, id ${lapic.id}, ${state}, TPR ${hex(lapic.taskPriority)}, PPR ${hex(lapic.processorPriority)}, spurious ${hex(lapic.spuriousVector)}, ESR ${hex(lapic.errorStatus)}`,
    `         timer ${timer.mode}, count ${timer.currentCount} of ${timer.initialCount}, divided by ${timer.divisor}`,
    `         LVT: ${entries.join(', ')}`,
    `         in service: ${vectors(lapic.inService)}`,
    `         requested: ${vectors(lapic.requested)}`,
  ];
}

/** Those that are 0 are left to `--json`. */
function formatMsrs(msrs: VcpuDescription['msrs']): string[] {
  const set = msrs.filter(({ value }) => value !== '0x0');
  const cells = set.map(({ name, value }) => `${name.padEnd(27)} ${value}`);
  const rows = Array.from({ length: Math.ceil(cells.length / 2) }, (_, i) =>
    `    ${cells[2 * i]!.padEnd(47)} ${cells[2 * i + 1] ?? ''}`.trimEnd(),
  );
  return [`  MSRs   ${msrs.length}, of which ${msrs.length - set.length} are 0`, ...rows];
}

function formatBoard({ ioapic, pics, pit, chips }: SnapshotInspection): string[] {
  const routed = ioapic.entries.filter(({ masked }) => !masked);
  const masked = ioapic.entries.filter((entry) => entry.masked).map(({ pin }) => pin);
  const uart = Object.entries(chips.uart).map(([name, value]) => `${name} ${hex(value >>> 0)}`);
  return [
    title('I/O APIC', `id ${ioapic.id}, requested: ${numbers(ioapic.requested)}, masked: ${numbers(masked)}`),
    ...routed.map((entry) => {
      const to = `${entry.mode} to ${entry.destinationMode} ${entry.destination}`;
      const waits = entry.remoteIrr ? ', in service' : '';
      return `  pin ${String(entry.pin).padStart(2)}  vector ${hex(entry.vector)}  ${to}, ${entry.trigger}, active ${entry.polarity}${waits}`;
    }),
    ...(['master', 'slave'] as const).map((name) => {
      const { vectorBase, masked: inputs, requested, inService, level } = pics[name];
      const states = `masked: ${numbers(inputs)}, requested: ${numbers(requested)}, in service: ${numbers(inService)}, level: ${numbers(level)}`;
      return title(name === 'master' ? 'PICs' : '', `${name}: vectors from ${hex(vectorBase)}, ${states}`);
    }),
    ...(pit === undefined
      ? [title('PIT', 'never used')]
      : pit.map(({ mode, count: reload, bcd, gate }, i) =>
          title(
            i === 0 ? 'PIT' : '',
            `channel ${i}: mode ${mode}, count ${reload}${bcd ? ', BCD' : ''}, gate ${gate ? 'on' : 'off'}`,
          ),
        )),
    title('UART', `${uart.join(', ')}, ${count(chips.uartReceived, 'byte')} to read`),
    title('Chips', `CMOS index ${hex(chips.cmosIndex >>> 0)}, IMCR ${hex(chips.imcr >>> 0)}`),
    title('ACPI', `events: ${chips.acpiEvents.length === 0 ? 'none' : chips.acpiEvents.join(', ')}`),
  ];
}

function formatDevices(devices: readonly DeviceDescription[]): string[] {
  if (devices.length === 0) return [title('Devices', 'none')];
  return devices.flatMap((device) => [
    '',
    title(
      'Device',
      `${printable(device.id)}: ${printable(device.kind)} at ${hex(device.address)}${device.active ? '' : ', without a driver'}`,
    ),
    `  status   ${device.status.join(', ') || 'reset'}`,
    `  features ${device.features.join(', ') || 'none'}`,
    ...(device.failure === undefined ? [] : [`  failure  ${printable(device.failure)}`]),
    ...device.queues.map(
      (queue) =>
        `  queue ${String(queue.queue).padStart(2)}  ${queue.size} entries at ${queue.descriptors} ${queue.driver} ${queue.device}, next ${queue.next}${queue.wrap === 1 ? ', wrap 1' : ''}${queue.ready ? '' : ', not ready'}`,
    ),
    ...device.buckets.map(
      ({ limit, size, refillMs, tokens, burst }) =>
        `  limit    ${limit}: ${number(tokens)} of ${size} per ${refillMs} ms, burst ${number(burst)}`,
    ),
    `  state    ${wordsOf(device)}`,
  ]);
}

/** With two digits behind the point at most. */
function number(value: number): string {
  return String(Number(value.toFixed(2)));
}

function wordsOf({ words }: DeviceDescription): string {
  const all = Object.entries(words).map(([name, value]) => `${printable(name)} ${value}`);
  return all.join(', ') || 'none';
}

const VERDICT = {
  fine: 'this host can run it',
  warning: 'this host can run it, with the differences above',
  refusal: 'this host cannot run it',
} as const;

export function formatComparison({ cpu, host, reason, differences, verdict }: SnapshotComparison): string[] {
  const source =
    host === 'kvm'
      ? "the CPUID table, MSRs and TSC of this host's KVM"
      : 'the flags in /proc/cpuinfo alone: KVM may support less';
  const lines = [
    formatCpu('Guest', cpu),
    title('Host', source),
    ...(reason === undefined ? [] : [`${CONTINUED}${printable(reason)}`]),
    ...differences.map(
      ({ verdict: kind, where, problem }) => `  ${kind.padEnd(7)}  ${where}: ${printable(problem)}`,
    ),
    title('Verdict', `${verdict}: ${VERDICT[verdict]}`),
  ];
  return lines.flatMap(fit);
}

/** One line if the host cannot run the guest. */
export function refusalOf({ differences, verdict }: SnapshotComparison, path: string): string[] {
  if (verdict !== 'refusal') return [];
  const refused = differences.filter((each) => each.verdict === 'refusal').length;
  return [
    `Cannot restore ${path} on this host: ${count(refused, 'difference')} of the CPU, listed on stdout; use a host whose CPU has what the guest has seen`,
  ];
}

function title(name: string, text: string): string {
  return `${name.padEnd(TITLE)}${text}`.trimEnd();
}

/** The line, broken at spaces where it is too long; continued lines are indented by nine columns. */
function fit(line: string): string[] {
  const lines: string[] = [];
  let rest = line;
  while (rest.length > WIDTH) {
    const at = rest.lastIndexOf(' ', WIDTH);
    if (at <= CONTINUED.length) break;
    lines.push(rest.slice(0, at).trimEnd());
    rest = `${CONTINUED}${rest.slice(at + 1)}`;
  }
  return [...lines, cut(rest)];
}

function cut(line: string): string {
  return line.length <= WIDTH ? line : `${line.slice(0, WIDTH - 1)}…`;
}

function vectors(list: readonly number[]): string {
  return list.length === 0 ? 'none' : ranges(list, hex).join(' ');
}

function numbers(list: readonly number[]): string {
  return list.length === 0 ? 'none' : ranges(list, String).join(' ');
}

/** `1 3-5`: consecutive numbers as ranges. */
function ranges(list: readonly number[], write: (value: number) => string): string[] {
  const found: string[] = [];
  for (let i = 0; i < list.length; i++) {
    const first = list[i]!;
    while (list[i + 1] === list[i]! + 1) i++;
    found.push(list[i] === first ? write(first) : `${write(first)}-${write(list[i]!)}`);
  }
  return found;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? '' : 's'}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function range(start: number, bytes: number): string {
  const digits = (value: number) => `0x${value.toString(16).padStart(9, '0')}`;
  return `${digits(start)}-${digits(start + bytes - 1)}`;
}

function size(bytes: number): string {
  if (bytes >= 2 ** 20) return `${Number((bytes / 2 ** 20).toFixed(1))} MiB`;
  return bytes >= 2 ** 10 ? `${Number((bytes / 2 ** 10).toFixed(1))} KiB` : `${bytes} B`;
}

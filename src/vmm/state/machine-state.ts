/**
 * The state of a machine and its file: all of a saved guest but its memory. docs/snapshots.md describes the
 * format.
 *
 * The file is one line, `VOLT-SNAPSHOT <version> <SHA-256 of what follows>`, and one JSON document. KVM's
 * structures are base64 in it, as KVM gave them. The file is untrusted: what `decodeState` returns has the
 * lengths, counts and ranges that the schema names, and nothing else is promised of it.
 */
import * as v from 'valibot';
import { CMOS_WORD } from '../../chips/cmos.ts';
import { cpuHotplugWords } from '../../chips/cpu-hotplug.ts';
import { I8042_WORD } from '../../chips/i8042.ts';
import { IMCR_WORD } from '../../chips/imcr.ts';
import { TEXT_CURSOR_WORD } from '../../chips/text-cursor.ts';
import { UART_WORD } from '../../chips/uart.ts';
import { MAX_CPUS } from '../../config/config.ts';
import {
  CLOCK_DATA,
  DEBUG_REGS,
  IRQCHIP,
  NESTED_STATE,
  SREGS2,
  XCRS,
  XSAVE_BYTES,
} from '../../kvm/state-abi.ts';
import {
  CPUID_ENTRY,
  CPUID2,
  FPU,
  LAPIC,
  MSR_ENTRY,
  PIT_STATE,
  REGS,
  SREGS,
  VCPU_EVENTS,
} from '../../kvm/abi.ts';
import { found, isSection, wholeNumber } from '../../schema/values.ts';
import { SavedDeviceSchema } from '../../virtio/host/saved-device.ts';
import { VoltError } from '../../volt-error.ts';
import { MemoryStateSchema } from './memory-state.ts';

/**
 * Raised with every change after which older versions of Volt cannot read the file; the new keys are optional, so that
 * files of older formats are read. 2: `buckets` and `pci` of devices, `pci` of the machine.
 */
const STATE_FORMAT = 2;

const MAGIC = 'VOLT-SNAPSHOT';
/** A thousand vCPUs with AMX have a tenth of this. */
export const MAX_STATE_BYTES = 256 * 1024 * 1024;
const MAX_CPUID_ENTRIES = 256;
const MAX_MSRS = 1024;
/** Architectural state components, AMX tiles included, have 11 KiB so far. (Intel SDM 1 §13.4) */
const MAX_XSAVE_BYTES = 64 * 1024;
/** Of the receiver FIFO. */
const MAX_RECEIVED_BYTES = 4096;
const MAX_DEVICES = 64;
/** 2^53 - 1: larger numbers have no exact value in JavaScript. */
const MAX_NUMBER = Number.MAX_SAFE_INTEGER;

/** Base64 of `smallest` to `largest` bytes, a whole number of `unit` bytes after the first `header` bytes. */
function bytes(smallest: number, largest = smallest, unit = 1, header = 0) {
  const expected = smallest === largest ? `${smallest} bytes` : `${smallest} to ${largest} bytes`;
  const message = (issue: v.BaseIssue<unknown>) =>
    `${found(issue.input, 40)} (expected base64 of ${expected})`;
  return v.pipe(
    v.string(message),
    v.maxLength(Math.ceil(largest / 3) * 4, message),
    v.rawTransform(({ dataset, addIssue, NEVER }) => {
      const decoded = decodeBase64(dataset.value);
      const length = decoded?.length ?? -1;
      if (decoded && length >= smallest && length <= largest && (length - header) % unit === 0)
        return decoded;
      addIssue({ message: `${found(dataset.value, 40)} (expected base64 of ${expected})` });
      return NEVER;
    }),
  );
}

function decodeBase64(text: string): Uint8Array | undefined {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  return new Uint8Array(Buffer.from(text, 'base64'));
}

/** `count` words of 32 bits, signed. */
function words(count: number, most = count) {
  return v.pipe(
    list(wholeNumber(-(2 ** 31), 2 ** 31 - 1), most),
    v.minLength(count, (issue) => `${issue.input.length} words (expected at least ${count})`),
  );
}

function list<const T extends v.GenericSchema>(item: T, most: number) {
  return v.pipe(
    v.array(item, (issue) => `${found(issue.input)} (expected a list)`),
    v.maxLength(most, (issue) => `${issue.input.length} items (expected at most ${most})`),
  );
}

function object<const T extends v.ObjectEntries>(entries: T) {
  return v.strictObject(entries, (issue) =>
    issue.expected === 'never'
      ? 'unknown to this version of Volt (expected a snapshot that it can read)'
      : `${found(issue.input)} (expected an object with ${Object.keys(entries).join(', ')})`,
  );
}

const flag = v.boolean((issue) => `${found(issue.input)} (expected true or false)`);
const text = (longest: number) =>
  v.pipe(
    v.string((issue) => `${found(issue.input)} (expected a string)`),
    v.maxLength(longest, (issue) => `${found(issue.input, 40)} (expected at most ${longest} characters)`),
  );
/** Checked by whoever uses it. */
const section = v.custom<Readonly<Record<string, unknown>>>(
  isSection,
  (issue) => `${found(issue.input, 40)} (expected an object)`,
);
const id = v.pipe(
  v.string((issue) => `${found(issue.input)} (expected 32 hexadecimal digits)`),
  v.regex(/^[0-9a-f]{32}$/, (issue) => `${found(issue.input, 40)} (expected 32 hexadecimal digits)`),
);

/** Registers of one vCPU: KVM's structures as they are. */
const VcpuStateSchema = object({
  index: wholeNumber(0, MAX_CPUS - 1),
  /** Its id in KVM. */
  apicId: wholeNumber(0, 0xffff_ffff),
  /** Ejected by the guest, or never taken by it: the vCPU stays out of the guest until it is plugged again. */
  parked: flag,
  /** KVM_MP_STATE */
  mpState: wholeNumber(0, 15),
  /** `struct kvm_cpuid2` */
  cpuid: bytes(
    CPUID2.size,
    CPUID2.size + MAX_CPUID_ENTRIES * CPUID_ENTRY.size,
    CPUID_ENTRY.size,
    CPUID2.size,
  ),
  /** `struct kvm_regs` */
  regs: bytes(REGS.size),
  /** `struct kvm_sregs2`, or `struct kvm_sregs` of a KVM that has no other; CR and segments lie the same way. */
  sregs: bytes(SREGS.size, SREGS2.size, SREGS2.size - SREGS.size, SREGS.size),
  /** `struct kvm_xsave` with all components; undefined on a KVM that has `fpu` alone. */
  xsave: v.optional(bytes(XSAVE_BYTES, MAX_XSAVE_BYTES)),
  /** `struct kvm_fpu`, without `xsave`. */
  fpu: v.optional(bytes(FPU.size)),
  /** `struct kvm_xcrs` */
  xcrs: v.optional(bytes(XCRS.size)),
  /** `struct kvm_debugregs` */
  debugRegs: v.optional(bytes(DEBUG_REGS.size)),
  /** `struct kvm_lapic_state` */
  lapic: bytes(LAPIC.size),
  /** `struct kvm_msr_entry`, one after another, in the order of their restoration; see `savedMsrs`. */
  msrs: bytes(0, MAX_MSRS * MSR_ENTRY.size, MSR_ENTRY.size),
  /** `struct kvm_vcpu_events` */
  events: bytes(VCPU_EVENTS.size),
  /** Guest TSC frequency; 0: KVM could not tell. */
  tscKhz: wholeNumber(0, 0xffff_ffff),
  /** `struct kvm_nested_state`, of a guest that is a hypervisor itself. */
  nested: v.optional(bytes(NESTED_STATE.size, 64 * 1024)),
});

const VmStateSchema = object({
  /** `struct kvm_clock_data` */
  clock: bytes(CLOCK_DATA.size),
  /** `struct kvm_irqchip` of both PICs and the I/O APIC. */
  picMaster: bytes(IRQCHIP.size),
  picSlave: bytes(IRQCHIP.size),
  ioapic: bytes(IRQCHIP.size),
  /** `struct kvm_pit_state2`; undefined: the guest never touched the PIT. */
  pit: v.optional(bytes(PIT_STATE.size)),
  /** Interrupt routing: KVM's own for its three controllers. */
  routing: v.literal('default', (issue) => `${found(issue.input)} (expected default)`),
});

/** Words of the board's chips, at the offsets that their own tables name. */
const ChipsStateSchema = object({
  uart: words(UART_WORD.size),
  i8042: words(I8042_WORD.size),
  cmos: words(CMOS_WORD.size),
  imcr: words(IMCR_WORD.size),
  textCursor: words(TEXT_CURSOR_WORD.size),
  cpuHotplug: words(cpuHotplugWords(1), cpuHotplugWords(MAX_CPUS)),
  /** Bytes in the UART's receiver FIFO, the oldest first. */
  received: bytes(0, MAX_RECEIVED_BYTES),
  /** ACPI_EVENT bits that the guest has not read. */
  acpiEvents: wholeNumber(0, 0xff),
});

const MachineStateSchema = object({
  /** Random; names this snapshot. */
  id,
  /** Milliseconds since 1970. */
  createdAt: wholeNumber(0, MAX_NUMBER),
  /** Version of Volt that wrote it. */
  volt: text(64),
  /** The machine's configuration, for `parseConfig`; paths are absolute. */
  config: section,
  /** vCPUs that were present when the machine started: others than in `config` after a reset. */
  cpus: wholeNumber(1, MAX_CPUS),
  boot: object({
    protocol: v.picklist(
      ['linux', 'bzimage', 'pvh', 'multiboot'],
      (issue) => `${found(issue.input)} (expected linux, bzimage, pvh or multiboot)`,
    ),
  }),
  /** By index, without gaps. */
  vcpus: v.pipe(
    list(VcpuStateSchema, MAX_CPUS),
    v.minLength(1, () => 'no vCPU (expected at least one)'),
    v.check(
      (all) => all.every(({ index }, i) => index === i),
      () => 'vCPUs out of order (expected them by index, without gaps)',
    ),
    v.check(
      (all) => all.every(({ xsave, fpu }) => (xsave === undefined) !== (fpu === undefined)),
      () => 'a vCPU without FPU state (expected xsave or fpu)',
    ),
  ),
  vm: VmStateSchema,
  chips: ChipsStateSchema,
  /** The PCI bus itself; its devices are in `devices`. */
  pci: v.optional(object({ words: words(1, 512), bridge: words(64) })),
  /** In the order of their slots. */
  devices: list(SavedDeviceSchema, MAX_DEVICES),
  memory: MemoryStateSchema,
  /** VM Generation ID: where the guest finds it. */
  vmGenId: v.optional(object({ address: wholeNumber(0, MAX_NUMBER) })),
  /** Settings of the API that controlled the guest, which has a schema of its own for them. */
  api: v.optional(section),
});

export type MachineState = v.InferOutput<typeof MachineStateSchema>;
export type SavedVcpu = MachineState['vcpus'][number];

/** The bytes of a state file. */
export function encodeState(state: MachineState): Uint8Array {
  const json = Buffer.from(`${JSON.stringify(state, encodeBytes)}\n`);
  const header = Buffer.from(`${MAGIC} ${STATE_FORMAT} ${sha256(json)}\n`);
  return new Uint8Array(Buffer.concat([header, json]));
}

function encodeBytes(_key: string, value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64');
}

/**
 * The state in a file that `name` names in errors. Throws VoltError 'image' for anything but a whole state
 * file of a format that this version reads.
 */
export function decodeState(file: Uint8Array, name: string): MachineState {
  const fail = (problem: string, next = 'take the snapshot again') =>
    new VoltError('image', `Cannot read the snapshot ${name}: ${problem}; ${next}`);
  if (file.length > MAX_STATE_BYTES) {
    throw fail(`it has ${file.length} bytes, and at most ${MAX_STATE_BYTES} are read`);
  }
  const end = file.subarray(0, MAX_HEADER_BYTES).indexOf(0x0a);
  const header = HEADER.exec(Buffer.from(file.subarray(0, Math.max(0, end))).toString('latin1'));
  if (!header)
    throw fail('it is no state file of Volt', 'name the directory that volt ctl PID snapshot wrote');
  const version = Number(header[1]);
  if (version < 1 || version > STATE_FORMAT) {
    throw fail(
      `its format is ${version}, and this Volt reads 1 to ${STATE_FORMAT}`,
      'use the Volt that wrote it',
    );
  }
  const json = file.subarray(end + 1);
  if (sha256(json) !== header[2]) throw fail('its checksum is wrong, so it was cut short or changed');
  const parsed = v.safeParse(MachineStateSchema, parseJson(json, fail), {
    abortEarly: true,
    abortPipeEarly: true,
  });
  if (parsed.success) return checkState(parsed.output, fail);
  const [issue] = parsed.issues;
  throw fail(`${v.getDotPath(issue) ?? 'the document'} is ${issue.message}`);
}

const MAX_HEADER_BYTES = 128;
const HEADER = new RegExp(`^${MAGIC} (\\d{1,9}) ([0-9a-f]{64})$`);

function parseJson(json: Uint8Array, fail: (problem: string) => VoltError): unknown {
  try {
    return JSON.parse(Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8'));
  } catch {
    // A syntax error, or nesting that is too deep for the parser.
    throw fail('it is no JSON document');
  }
}

/** What no single field shows. */
function checkState(state: MachineState, fail: (problem: string) => VoltError): MachineState {
  const { chips, vcpus } = state;
  const waiting = (chips.uart[UART_WORD.receiveHead]! - chips.uart[UART_WORD.receiveTail]!) | 0;
  if (waiting !== chips.received.length) {
    throw fail(`its UART has ${waiting} bytes to read, and ${chips.received.length} are there`);
  }
  const slots = (chips.cpuHotplug.length - cpuHotplugWords(0)) / (cpuHotplugWords(1) - cpuHotplugWords(0));
  if (!Number.isInteger(slots) || slots < vcpus.length) {
    throw fail(`its hotplug registers are for ${slots} vCPUs, and it has ${vcpus.length}`);
  }
  return state;
}

function sha256(content: Uint8Array): string {
  return new Bun.CryptoHasher('sha256').update(content).digest('hex');
}

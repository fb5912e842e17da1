/** The state file of a snapshot with a right checksum, as a forger makes it: decoded, compared with a host, printed. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { formatComparison, formatSnapshot } from '../../../src/cli/inspect-snapshot.ts';
import { compareCpu } from '../../../src/vmm/state/cpu-compatibility.ts';
import { cpuNeedsOf } from '../../../src/vmm/state/cpu-needs.ts';
import { describeState } from '../../../src/vmm/state/describe-state.ts';
import { decodeState, encodeState, type MachineState } from '../../../src/vmm/state/machine-state.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { AMD, INTEL } from '../../../test/unit/cpuid/hosts.ts';
import type { Random } from '../../../test/unit/support/random.ts';
import { describedGuest } from '../../../test/unit/vmm/state/described-guest.ts';
import { sampleState, signState } from '../../../test/unit/vmm/state/sample-state.ts';
import { kindOf, type FuzzTarget } from '../target.ts';
import { keysOf, parsedJson, treeVariation, type Json } from '../vary-tree.ts';

/** The document behind the line with the checksum. */
function documentOf(state: MachineState): Json {
  const text = Buffer.from(encodeState(state)).toString();
  return JSON.parse(text.slice(text.indexOf('\n') + 1)) as Json;
}

/** Of a real guest. */
const GOLDEN = resolve(import.meta.dir, '../../../test/vectors/state/format-2');
const DOCUMENTS = [
  documentOf(describedGuest(AMD)),
  documentOf(describedGuest(INTEL)),
  documentOf(sampleState(2)),
  documentOf(decodeState(readFileSync(GOLDEN), GOLDEN)),
];
const KEYS = [...new Set(DOCUMENTS.flatMap(keysOf)), '__proto__', 'constructor'];
const VALUES: readonly Json[] = [
  ...[
    null,
    true,
    false,
    0,
    1,
    -1,
    2,
    15,
    16,
    63,
    64,
    255,
    4096,
    2 ** 31,
    2 ** 32 - 1,
    2 ** 53 - 1,
    1e308,
    0.5,
  ],
  ...['', 'A', 'AAAA', 'net', 'toString', '\u001b[2J', '\u009b', 'x'.repeat(300), '\ud800'],
  ...[[], {}, [[]], [0, 0], [0, 4096]],
];
const varyTree = treeVariation(DOCUMENTS, KEYS, VALUES);
const LEAST_STRUCT = 40;

/** Overwrites bytes in one of KVM's structures, which are the long base64 texts. */
function varyStruct(random: Random, input: Uint8Array): Uint8Array {
  const text = Buffer.from(input).toString();
  const structs = [...text.matchAll(/"([A-Za-z0-9+/]+={0,2})"/g)].filter(
    ([, base64]) => base64!.length >= LEAST_STRUCT,
  );
  if (structs.length === 0) return varyTree(random, input);
  const { index, 1: base64 } = random.pick(structs as [RegExpExecArray, ...RegExpExecArray[]]);
  const bytes = Buffer.from(base64!, 'base64');
  for (let count = random.int(1, 16); count > 0; count--)
    bytes[random.int(0, bytes.length - 1)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.int(0, 255)]);
  const start = index + 1;
  return Buffer.from(text.slice(0, start) + bytes.toString('base64') + text.slice(start + base64!.length));
}

const WIDTH = 100;

function checkLines(lines: readonly string[]): void {
  for (const line of lines) {
    if (/[\u0000-\u001f\u007f-\u009f]/.test(line))
      throw new Error(`control characters: ${JSON.stringify(line)}`);
    if (line.length > WIDTH) throw new Error(`a line of ${line.length} columns: ${line}`);
  }
}

export const snapshotTarget: FuzzTarget = {
  name: 'snapshot',
  what: 'state files with a right checksum, decoded, compared with a host and printed',
  seeds: () => DOCUMENTS.map((document) => Buffer.from(JSON.stringify(document))),
  words: KEYS.map((key) => `"${key}":`),
  vary: (random, input) => (random.int(0, 1) === 0 ? varyTree : varyStruct)(random, input),
  run: (input) => {
    if (parsedJson(input) === undefined) return 'no JSON';
    let state: MachineState;
    try {
      state = decodeState(signState(Buffer.from(input).toString()), 'DIR');
    } catch (error) {
      if (!(error instanceof VoltError) || error.code === 'internal') throw error;
      if (error.message.includes('\n'))
        throw new Error(`a message of several lines: ${error.message}`, { cause: error });
      return kindOf(error.message);
    }
    const described = describeState(state);
    JSON.stringify(described);
    checkLines(formatSnapshot({ ...described, onDisk: state.memory.layers.map(() => 0), problems: [] }));
    const comparison = compareCpu(cpuNeedsOf(state), {
      cpuid: AMD,
      msrs: new Set([0x10]),
      tscKhz: 2_000_000,
    });
    const lines = formatComparison({ ...comparison, host: 'kvm', reason: undefined, cpu: described.cpu });
    checkLines(lines);
    const modes = described.vcpus.map(({ mode, pagingLevels }) => `${mode} ${pagingLevels}`);
    return `${comparison.verdict} ${modes.join()} ${described.devices.length}`;
  },
};

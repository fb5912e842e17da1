/**
 * Firecracker's static CPU templates: what guests see of instances of those names at EC2. A line has a CPUID leaf and
 * subleaf, a register, the mask of the bits that the template sets, and their values, or an MSR with the same; all
 * hexadecimal. (firecracker-microvm/firecracker, tests/data/custom_cpu_templates)
 */
import type { CpuidRegister, CpuTemplate, MsrMask } from './cpu-template.ts';
import { INDEXED } from './leaf.ts';

/** Family, model and stepping. */
const SKYLAKE = '6/85/4';
const CASCADE_LAKE = '6/85/7';
const ICE_LAKE = '6/106/6';
const MILAN = '25/1/1';

const T2_COMMON = `
1.0 eax 0fff3fff 000306f2
1.0 ecx 0004cdfc 00000000
1.0 edx e8641080 00001080
7.0 ebx ffefda14 00000200
7.0 ecx 40415f5e 00000000
7.0 edx 0000011c 00000000
d.0 eax 000002f8 00000000
d.1 eax 0000000e 00000000`;
const T2_INTEL = `${T2_COMMON}
80000001.0 ecx 20000100 00000000
80000001.0 edx 04000000 00000000
80000008.0 ebx 00000200 00000000`;

const TEMPLATES = {
  C3: {
    vendor: 'GenuineIntel',
    models: [SKYLAKE, CASCADE_LAKE, ICE_LAKE],
    text: `
1.0 eax 0fff3fff 000306e4
1.0 ecx 0040dd3c 00000000
1.0 edx a8641080 00001080
7.0 ebx ffafdd3c 00000000
7.0 ecx 4041481e 00000000
7.0 edx 0000000c 00000000
d.0 eax 000002f8 00000000
d.1 eax 0000000e 00000000
80000001.0 ecx 00000120 00000000
80000001.0 edx 04000000 00000000`,
  },
  T2: { vendor: 'GenuineIntel', models: [SKYLAKE, CASCADE_LAKE, ICE_LAKE], text: T2_INTEL },
  T2S: {
    vendor: 'GenuineIntel',
    models: [SKYLAKE, CASCADE_LAKE],
    text: `${T2_INTEL}
msr 10a ffffffffffffffff 0c0a0c4c`,
  },
  T2CL: {
    vendor: 'GenuineIntel',
    models: [CASCADE_LAKE, ICE_LAKE],
    text: `${T2_COMMON}
80000001.0 ecx 200001c0 00000000
80000001.0 edx 07c00000 00000000
80000008.0 ebx 00000200 00000000
msr 10a ffffffffe2f51e00 0`,
  },
  T2A: {
    vendor: 'AuthenticAMD',
    models: [MILAN],
    text: `${T2_COMMON}
80000001.0 ecx 200001c4 00000000
80000001.0 edx 06400000 00000000
80000008.0 ebx 001c0205 001c0004`,
  },
} as const;

export type StaticTemplateName = keyof typeof TEMPLATES;
export const STATIC_TEMPLATES = Object.keys(TEMPLATES) as readonly StaticTemplateName[];

export function staticTemplate(name: StaticTemplateName): CpuTemplate {
  const { text, ...hosts } = TEMPLATES[name];
  const lines = text
    .trim()
    .split('\n')
    .map((line) => line.split(' '));
  return {
    ...{ hosts, capabilities: [] },
    cpuid: lines.filter(([what]) => what !== 'msr').map(parseLeaf),
    msrs: lines.filter(([what]) => what === 'msr').map(parseMsr),
  };
}

function parseLeaf([leaf = '', register = '', filter = '', value = '']: readonly string[]) {
  const [number = 0, subleaf = 0] = leaf.split('.').map((digits) => parseInt(digits, 16));
  const mask = { filter: parseHex(filter), value: parseHex(value) };
  return {
    ...{ leaf: number, subleaf },
    flags: INDEXED_LEAVES.has(number) ? INDEXED : 0,
    registers: [{ register: register as CpuidRegister, ...mask }],
  };
}

const INDEXED_LEAVES: ReadonlySet<number> = new Set([0x7, 0xd]);

function parseMsr([, index = '', filter = '', value = '']: readonly string[]): MsrMask {
  return { index: parseInt(index, 16), filter: parseHex(filter), value: parseHex(value) };
}

function parseHex(digits: string): bigint {
  return BigInt(`0x${digits}`);
}

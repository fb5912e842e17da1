/** Parses flags with several settings into keys of the configuration. */
import { VoltError } from '../api/index.ts';
import { toMib } from './size.ts';

/**
 * Text that is not a decimal number is returned unchanged, so that the schema refuses it with its own
 * message.
 */
export function toNumber(text: string): number | string {
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

/** Settings of `--cpus`, with their keys in the section `volt`. */
const CPUS_KEYS = {
  sockets: 'sockets',
  dies: 'dies',
  cores: 'cores',
  threads: 'threads',
  max: 'max_cpus',
} as const;

export interface CpusFlag {
  readonly count: number | string | undefined;
  readonly topology: Readonly<Record<string, number | string>>;
}

/** `8,sockets=2,dies=1,cores=2,threads=2,max=16`; the count may be left out. Throws VoltError 'usage'. */
export function parseCpusFlag(text: string): CpusFlag {
  const [first = '', ...others] = text.split(',');
  const settings = first.includes('=') ? [first, ...others] : others;
  const topology: Record<string, number | string> = {};
  for (const [name, value] of splitSettings('--cpus', settings, Object.keys(CPUS_KEYS))) {
    topology[CPUS_KEYS[name as keyof typeof CPUS_KEYS]] = toNumber(value);
  }
  return { count: first.includes('=') ? undefined : toNumber(first), topology };
}

/** `--memory 1G,max=8G,…`. */
export interface MemoryFlag {
  readonly mib: number;
  /** The section `memory-hotplug`. */
  readonly hotplug: Readonly<Record<string, number | string>>;
}

/** Settings behind the size: `max=8G,block=2M,slot=128M,node=0`. Throws VoltError 'usage'. */
export function parseMemoryFlag(mib: number, settings: readonly string[]): MemoryFlag {
  const hotplug: Record<string, number | string> = {};
  for (const [name, value] of splitSettings('--memory', settings, ['max', 'block', 'slot', 'node'])) {
    if (name === 'max') hotplug['total_size_mib'] = toMib(value) - mib;
    else if (name === 'node') hotplug['node'] = toNumber(value);
    else hotplug[`${name}_size_mib`] = toMib(value);
  }
  return { mib, hotplug };
}

export type NumaFlag = Readonly<Record<string, unknown>>;

/** `node=0,cpus=0-1,memory=1G,distance=10:20,host=0`. Throws VoltError 'usage'. */
export function parseNumaFlag(text: string): NumaFlag {
  const node: Record<string, unknown> = {};
  const names = ['node', 'cpus', 'memory', 'distance', 'latency', 'bandwidth', 'host'];
  for (const [name, value] of splitSettings('--numa', text.split(','), names)) {
    switch (name) {
      case 'memory':
        node['mem_size_mib'] = toMib(value);
        break;
      case 'distance':
        node['distance'] = value.split(':').map(toNumber);
        break;
      case 'latency':
        node['latency_ns'] = value.split(':').map(toNumber);
        break;
      case 'bandwidth':
        node['bandwidth_mbps'] = value.split(':').map(toNumber);
        break;
      case 'host':
        node['host_node'] = toNumber(value);
        break;
      case 'cpus':
        node['cpus'] = value;
        break;
      default:
        node[name] = toNumber(value);
    }
  }
  return node;
}

function splitSettings(
  flag: string,
  settings: readonly string[],
  names: readonly string[],
): [string, string][] {
  const seen = new Set<string>();
  return settings.map((setting) => {
    const [name = '', ...value] = setting.split('=');
    if (!names.includes(name) || value.length !== 1 || value[0] === '') {
      throw new VoltError(
        'usage',
        `Cannot use ${flag}: "${setting}" (expected ${names.map((each) => `${each}=…`).join(', ')})`,
      );
    }
    if (seen.has(name))
      throw new VoltError('usage', `Cannot use ${flag}: ${name} is given twice (expected each setting once)`);
    seen.add(name);
    return [name, value[0]!];
  });
}

/** Flags that hold several settings. */
import { InvalidArgument } from '../../../src/cli/flags.ts';
import { parseCpusFlag, parseNumaFlag, toNumber } from '../../../src/cli/machine-flags.ts';
import { parseMib } from '../../../src/schema/sizes.ts';
import { parseCpuList } from '../../../src/machine/cpu-list.ts';
import { parseConfig } from '../../../src/config/config.ts';
import { ALL_SPECS } from '../../../src/virtio/host/specs.ts';
import { VoltError } from '../../../src/volt-error.ts';
import { kindOf, type FuzzTarget } from '../target.ts';

const TEXTS = [
  '8,sockets=2,dies=1,cores=2,threads=2,max=16',
  'node=0,cpus=0-1+3,memory=1G,distance=10:20,latency=5:9,bandwidth=100:50,host=0',
  'path=/d.img,readonly,id=root,cache=unsafe,direct,overlay=/o,queues=4,bw=10M,iops=500,engine=async',
  'path=/srv,tag=files,readonly,cache=none,id=a,socket=/s',
  '512M',
  '0-3,7,9-10',
  '/a,b=c.img',
  'tap=tap0,mac=06:00:ac:10:00:02,id=lan,queues=2,bw=10M,iops=500',
  'user',
  'path=/v.sock,cid=4294967294',
  'socket=/s,name=org.example,tty',
  'size=128M,stats=5,deflate-on-oom',
  'file=/log',
];

const READERS: readonly ((text: string) => unknown)[] = [
  (text) => parseConfig({ volt: parseCpusFlag(text).topology, 'machine-config': {} }),
  (text) => parseConfig({ volt: { numa: [parseNumaFlag(text)] } }),
  ...ALL_SPECS.map(({ section, isList, flag }) => (text: string) => {
    const item = flag.parse(text, 0);
    return parseConfig({ [section]: isList ? [item] : item });
  }),
  (text) => parseConfig({ volt: { console: text } }),
  (text) => parseConfig({ volt: { hang_report_s: text } }),
  parseMib,
  parseCpuList,
  toNumber,
  (text) => parseConfig({ volt: { cpu_affinity: text } }),
];

export const flagsTarget: FuzzTarget = {
  name: 'flags',
  what: `--cpus, --numa, ${ALL_SPECS.map(({ flag }) => `--${flag.name}`).join(', ')}, --console, --memory, --cpu-affinity, CPU lists`,
  seeds: () => TEXTS.flatMap((text) => READERS.map((_, i) => Buffer.from(String.fromCharCode(i) + text))),
  words: [
    '=',
    ',',
    ':',
    '+',
    '-',
    'max=',
    'path=',
    'tap=',
    'mac=',
    'cid=',
    'socket=',
    'tty',
    'size=',
    'stats=',
    'bw=',
    'memory=',
    '0-4095',
    '9'.repeat(40),
    'G',
    '__proto__=',
  ],
  run: (input) => {
    const reader = (input[0] ?? 0) % READERS.length;
    const text = Buffer.from(input.subarray(1)).toString('utf8');
    try {
      READERS[reader]!(text);
      return `${reader} taken`;
    } catch (error) {
      const refused =
        error instanceof InvalidArgument || (error instanceof VoltError && error.code !== 'internal');
      if (!refused) throw error;
      if (error instanceof VoltError && error.message.includes('\n'))
        throw new Error(`a message of several lines: ${error.message}`, { cause: error });
      return `${reader} ${kindOf(error.message)}`;
    }
  },
};

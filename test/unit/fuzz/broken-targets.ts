/** Targets with defects of every kind, to see that they are found. */
import type { FuzzTarget } from '../../../scripts/fuzz/target.ts';

const seeds = () => [Buffer.from('AAAA'), Buffer.from('AAAB')];
const HANG_MS = 1500;

/** Each byte that is right is a new way, so that the next one can be found. */
function matched(input: Uint8Array, text: string): number {
  let count = 0;
  while (count < text.length && input[count] === text.charCodeAt(count)) count++;
  return count;
}

export const TARGETS: readonly FuzzTarget[] = [
  {
    name: 'throws',
    what: 'throws for a word that only an input that was kept leads to',
    seeds,
    run: (input) => {
      const count = matched(input, 'CIQ');
      if (count === 3) throw new Error('found the word');
      return `${count}`;
    },
  },
  {
    name: 'hidden',
    what: 'throws deep in a branch of which it says nothing',
    seeds,
    source: /broken-targets\.ts$/,
    run: (input) => {
      if (input[0] === 0x51) {
        if (input[1] === 0x52) {
          if (input[2] === 0x53) {
            if (input[3] === 0x54) throw new Error('found the depth');
          }
        }
      }
      return '';
    },
  },
  {
    name: 'hangs',
    what: 'never ends for an input without bytes',
    seeds,
    run: (input) => {
      while (input[0] !== 0x41);
      return '';
    },
    hangMs: HANG_MS,
  },
  {
    name: 'crashes',
    what: 'takes the process with it',
    seeds,
    run: (input) => {
      if (input[0] !== 0x41) process.kill(process.pid, 'SIGSEGV');
      return '';
    },
  },
  { name: 'sound', what: 'has no defect', seeds, run: async (input) => `${input.length > 4}` },
];

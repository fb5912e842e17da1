/** Reads golden vectors from test/vectors; what they are and where from is told in its README.md. */
import { readFileSync } from 'node:fs';
import type { CpuidEntry } from '../../../src/machine/cpuid-entry.ts';

function linesOf(name: string): string[] {
  const text = readFileSync(new URL(`../../vectors/${name}`, import.meta.url), 'utf8');
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

export function readHexVector(name: string): Uint8Array {
  return Uint8Array.from(linesOf(name).flatMap((line) => line.split(' ').map((byte) => parseInt(byte, 16))));
}

export function readCpuidVector(name: string): CpuidEntry[] {
  return linesOf(name).map((line) => {
    const words = line.split(' ').map((word) => parseInt(word, 16));
    const [leaf, index, flags, eax, ebx, ecx, edx] = words as [
      number,
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    return { function: leaf, index, flags, eax, ebx, ecx, edx };
  });
}

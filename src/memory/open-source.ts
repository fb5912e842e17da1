/** Opens the source of a restored guest's memory. Only loaded for a guest that is restored. */
import { LayersSource } from './layers-source.ts';
import type { MemorySource, OpenMemorySource } from './memory-source.ts';
import { UserfaultSource } from './userfault-source.ts';

/** Throws SyscallError. */
export function openMemorySource(source: MemorySource): OpenMemorySource {
  return source.kind === 'layers' ? new LayersSource(source.layers) : new UserfaultSource(source);
}

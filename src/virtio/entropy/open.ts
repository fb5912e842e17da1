/** Opens the entropy device: it needs no files. */
import type { OpenDevice } from '../host/open-device.ts';
import { ENTROPY_FACTS } from './device.ts';
import type { EntropyStart } from './serve.ts';
import type { EntropyConfig } from './spec.ts';

export function openEntropy({ limits }: EntropyConfig): OpenDevice<EntropyStart> {
  return { facts: ENTROPY_FACTS, start: { limits }, blocks: false, close: () => {} };
}

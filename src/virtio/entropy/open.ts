/** Opens the entropy device, which needs no files. */
import type { OpenDevice } from '../host/open-device.ts';
import { ENTROPY_DESCRIPTION } from './device.ts';
import type { EntropyStart } from './serve.ts';
import type { EntropyConfig } from './spec.ts';

export function openEntropy({ limits }: EntropyConfig): OpenDevice<EntropyStart> {
  return { description: ENTROPY_DESCRIPTION, start: { limits }, blocks: false, close: () => {} };
}

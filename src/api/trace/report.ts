/** Reads a trace for `volt report`. */
import { readFileSync } from 'node:fs';
import { statPath } from '../../ffi/stat.ts';
import { summarizeTrace, type TraceSummary } from '../../trace/summary.ts';
import { VoltError } from '../../volt-error.ts';

const MAX_BYTES = 512 * 1024 * 1024;

/** Throws VoltError 'image' for what is no trace. */
export function reportTrace(path: string): TraceSummary {
  const state = statPath(path);
  if (state.kind === 'unusable')
    throw new VoltError('image', `Cannot report on ${path}: ${state.found} (expected the file of a trace)`);
  if (state.bytes > MAX_BYTES)
    throw new VoltError(
      'image',
      `Cannot report on ${path}: it has ${state.bytes} bytes (expected at most ${MAX_BYTES})`,
    );
  return summarizeTrace(readFileSync(path, 'utf8'), path);
}

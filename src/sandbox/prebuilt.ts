/**
 * The sandbox's programs, made while Volt is built: `import … with { type: 'macro' }` puts what these functions return
 * in the place of their calls. Made at every start they would take 2 ms of it.
 */
import { buildFilter } from './filter.ts';
import type { ThreadClass } from './rules.ts';
import { buildTrapPage } from './trap-handler.ts';

/** A filter program in base64. */
export function prebuiltFilter(of: ThreadClass): string {
  return Buffer.from(buildFilter(of)).toString('base64');
}

export interface PrebuiltPage {
  /** The page for address 0, in base64. */
  readonly base64: string;
  /** Offsets of the u64 fields to which the real address is to be added. */
  readonly addresses: readonly number[];
}

/** The page of the SIGSYS handler. */
export function prebuiltTrapPage(before: string, after: string, exitCode: number): PrebuiltPage {
  const text = { before, after, exitCode };
  const page = buildTrapPage(0, text);
  // Where the page for another address differs; one that has a bit in its fifth byte alone shows the fields' starts.
  const other = buildTrapPage(2 ** 32, text);
  const fifth = 4;
  const addresses = [...page.keys()].filter((at) => page[at] !== other[at]).map((at) => at - fifth);
  return { base64: Buffer.from(page).toString('base64'), addresses };
}

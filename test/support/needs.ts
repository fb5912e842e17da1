/** Tests that need something a host may lack. */
import { test } from 'bun:test';

type Runner = typeof test;

/**
 * `test`, for tests that are skipped where something is `missing`. It adds what they need to their names, as a
 * run shows of a skipped test nothing but its name.
 */
export function testNeeding(what: string, missing: boolean): Pick<Runner, 'each'> & Runner {
  const run = test.skipIf(missing);
  const named =
    (register: (name: string, ...rest: unknown[]) => unknown) =>
    (name: string, ...rest: unknown[]) =>
      register(`${name} (needs ${what})`, ...rest);
  const each = (table: never) => named(run.each(table) as never);
  return Object.assign(named(run as never), { each }) as never;
}

/**
 * The sandbox's filters and signal handler. Building them takes 2 ms, too much for each start:
 * scripts/build.ts builds them once and defines PREBUILT_SANDBOX in the executable. Elsewhere they are built
 * at first use.
 */
import { buildFilter, findOptionalCalls } from './filter.ts';
import type { OptionalDevice } from './optional-devices.ts';
import type { ThreadClass } from './rules.ts';
import { buildTrapPage } from './trap-handler.ts';

declare const PREBUILT_SANDBOX: string;

export interface PrebuiltSandbox {
  readonly trapPage: PrebuiltPage;
  readonly filters: Readonly<Record<ThreadClass, PrebuiltFilter>>;
}

/**
 * As PREBUILT_SANDBOX has them in JSON, or built now. The constant lets the bundler remove the code of the
 * builders.
 */
export function loadSandbox(): PrebuiltSandbox {
  return typeof PREBUILT_SANDBOX === 'undefined'
    ? buildSandbox()
    : (JSON.parse(PREBUILT_SANDBOX) as PrebuiltSandbox);
}

/** The handler exits with 1, as after any other failure of Volt. */
export function buildSandbox(): PrebuiltSandbox {
  return {
    trapPage: prebuiltTrapPage(
      'volt: Cannot continue: the sandbox forbids the system call ',
      '; please report it (--no-sandbox runs without the sandbox)\r\n',
      1,
    ),
    filters: {
      process: prebuiltFilter('process'),
      vcpu: prebuiltFilter('vcpu'),
      device: prebuiltFilter('device'),
    },
  };
}

export interface PrebuiltFilter {
  /** The program, in base64. */
  readonly base64: string;
  /** Byte offsets of u32 fields that take the id of the process. */
  readonly pids: readonly number[];
  /** Byte offsets of u32 fields that take NEVER for a guest without the device. */
  readonly optional: Readonly<Record<OptionalDevice, readonly number[]>>;
}

export function prebuiltFilter(of: ThreadClass): PrebuiltFilter {
  const [none, all] = [buildFilter(of, 0), buildFilter(of, 0xffff_ffff)];
  return {
    base64: Buffer.from(none).toString('base64'),
    // The first byte of each field that differs.
    pids: [...none.keys()].filter((at) => at % 4 === 0 && none[at] !== all[at]),
    optional: {
      vsock: findOptionalCalls(of, 'vsock'),
      share: findOptionalCalls(of, 'share'),
      files: findOptionalCalls(of, 'files'),
      control: findOptionalCalls(of, 'control'),
      pci: findOptionalCalls(of, 'pci'),
      mem: findOptionalCalls(of, 'mem'),
    },
  };
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
  // This address differs from 0 in its fifth byte alone, which shows where the fields start.
  const other = buildTrapPage(2 ** 32, text);
  const fifth = 4;
  const addresses = [...page.keys()].filter((at) => page[at] !== other[at]).map((at) => at - fifth);
  return { base64: Buffer.from(page).toString('base64'), addresses };
}

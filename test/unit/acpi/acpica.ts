/** The reference compiler, disassembler and interpreter for ACPI tables, from Debian's acpica-tools. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** For describe.skipIf: `npm test` installs these programs as root. */
export const acpicaMissing = Bun.which('iasl') === null || Bun.which('acpiexec') === null;

/** A folder for one run of a program, gone afterwards. */
function inTemporaryFolder<T>(act: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'volt-acpi-'));
  try {
    return act(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function run(folder: string, argv: readonly string[], input = ''): string {
  const child = Bun.spawnSync([...argv], {
    cwd: folder,
    stdin: Buffer.from(input),
    stdout: 'pipe',
    stderr: 'pipe',
    // acpiexec does not end by itself when something is wrong.
    timeout: 60_000,
  });
  return `${child.stdout.toString('utf8')}${child.stderr.toString('utf8')}`;
}

export interface Compilation {
  /** `0 Errors, 0 Warnings, 0 Remarks`, or all that was said when there is no such line. */
  readonly verdict: string;
  readonly aml: Uint8Array;
}

function compileIn(folder: string, dsl: string): Compilation {
  const output = run(folder, ['iasl', '-on', '-of', '-p', 'out', dsl]);
  const verdict = /\d+ Errors, \d+ Warnings, \d+ Remarks/.exec(output)?.[0] ?? output;
  return { verdict, aml: readFileSync(join(folder, 'out.aml')) };
}

/** Compiles ASL; names and expressions stay as they are written. */
export function compileAsl(source: string): Compilation {
  return inTemporaryFolder((folder) => {
    writeFileSync(join(folder, 'in.asl'), source);
    return compileIn(folder, 'in.asl');
  });
}

/** Disassembles a table and compiles the result. */
export function reassemble(table: Uint8Array): Compilation & { readonly complaints: readonly string[] } {
  return inTemporaryFolder((folder) => {
    writeFileSync(join(folder, 'in.dat'), table);
    const output = run(folder, ['iasl', '-d', 'in.dat']);
    const complaints = output.split('\n').filter((line) => /error|warning|invalid|unknown/i.test(line));
    return { complaints, ...compileIn(folder, 'in.dsl') };
  });
}

export interface Execution {
  /** Byte that the registers behind I/O regions are filled with at first; they keep what is written. */
  readonly fill?: number;
  /** ASL of a second table, loaded after the DSDT. */
  readonly more?: string;
}

/** One line of what the interpreter reports: a result, or a notification `C002 0x01`. */
export type Outcome = number | string;

/**
 * Evaluates `expressions`, such as `\\_SB.CPUS.C000._STA`, one after the other on acpiexec, the reference
 * interpreter, and gives in order what they return (integers, texts, or buffers in hex), whom they notify, and what fails.
 */
export function executeDsdt(
  dsdt: Uint8Array,
  expressions: readonly string[],
  { fill = 0, more }: Execution = {},
): Outcome[] {
  return inTemporaryFolder((folder) => {
    writeFileSync(join(folder, 'dsdt.aml'), dsdt);
    if (more !== undefined) writeFileSync(join(folder, 'more.aml'), compileAsl(more).aml);
    const tables = more === undefined ? ['dsdt.aml'] : ['dsdt.aml', 'more.aml'];
    const commands = expressions.map((expression) => `evaluate ${expression}\n`);
    const output = run(
      folder,
      ['sh', '-c', QUIT_LATER, 'sh', '-di', '-fv', String(fill), ...tables],
      commands.join(''),
    );
    return [...output.slice(output.indexOf('- evaluate ')).matchAll(OUTCOME)].map(readOutcome);
  });
}

/** acpiexec tells of notifications on threads of their own, which `quit` does not wait for. */
const QUIT_LATER = '(cat; sleep 0.3; echo quit) | acpiexec "$@"';

/** A notification, an integer, a text, a buffer of one or more lines, an error. */
const OUTCOME =
  /Received a \w+ Notify on \[(\w+)\] \w+ Value (0x\w+)|\[Integer\] = (\w+)|\[String\] Length \w+ = "(.*)"|\[Buffer\] Length \w+ =((?:\s+[0-9A-F]{4}: .*)+)|.*AE_\w+.*/g;

function readOutcome(match: RegExpExecArray): Outcome {
  const [whole, name, value, integer, text, dump] = match;
  if (name !== undefined) return `${name} ${value}`;
  if (integer !== undefined) return parseInt(integer, 16);
  if (text !== undefined) return text;
  if (dump === undefined) return whole.trim();
  const lines = dump.matchAll(/[0-9A-F]{4}: ((?:[0-9A-F]{2} )+)/g);
  return [...lines].map((line) => line[1]!.replaceAll(' ', '').toLowerCase()).join('');
}

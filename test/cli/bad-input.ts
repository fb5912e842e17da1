/** The shape of a case of bad input, and how to run one. */
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { runVolt, TemporaryFolder, type VoltRun } from './volt-process.ts';

/** In place of a file's content: a folder. */
export const FOLDER = Symbol('folder');

/** Content of a file; `sparseBytes` of zeros that take no room on the disk; a symbolic link; or a folder. */
export type FileContent =
  string | Uint8Array | { readonly sparseBytes: number } | { readonly linkTo: string } | typeof FOLDER;

export interface BadInput {
  /** What is wrong, for the name of the test. */
  readonly name: string;
  /** Files in the case's own folder, which `args` and `message` call `{dir}`. */
  readonly files?: Readonly<Record<string, FileContent>>;
  readonly args: readonly string[];
  /** All of stderr, without `volt: ` and the end of the line. */
  readonly message: string;
}

/** A kernel that cannot be loaded; `found` is how the message goes on after the path. */
export function badKernel(
  name: string,
  content: FileContent,
  found: string,
  flags: readonly string[] = [],
): BadInput {
  return {
    name,
    files: { kernel: content },
    args: ['--kernel', '{dir}/kernel', ...flags],
    message: `Cannot load {dir}/kernel: ${found}`,
  };
}

/** Flags alone; no file is needed to see what is wrong. */
export function badFlags(args: readonly string[], message: string): BadInput {
  return { name: args.join(' '), args, message };
}

/** A configuration file that cannot be used. */
export function badConfig(
  name: string,
  config: unknown,
  message: string,
  flags: readonly string[] = [],
): BadInput {
  return badConfigText(name, JSON.stringify(config), message, flags);
}

export function badConfigText(
  name: string,
  content: FileContent,
  message: string,
  flags: readonly string[] = [],
): BadInput {
  return {
    name,
    files: { 'vm.json': content },
    args: ['--config', '{dir}/vm.json', ...flags],
    message: `Cannot use ${message}`,
  };
}

/** A bad kernel that is taken for a good one may run for ever; telling a bad one takes milliseconds. */
const HANG_MS = 20_000;

/** Runs one case in a new folder; its path is put back as `{dir}` in what volt said. */
export async function runBadInput(
  input: BadInput,
  prefix: readonly string[] = [],
): Promise<Omit<VoltRun, 'bytes'>> {
  using folder = new TemporaryFolder();
  for (const [name, content] of Object.entries(input.files ?? {})) putFile(folder.at(name), content);
  const args = input.args.map((arg) => arg.replaceAll('{dir}', folder.path));
  const { stdout, stderr, exitCode } = await runVolt(args, { prefix, hangMs: HANG_MS });
  return { stdout, stderr: stderr.replaceAll(folder.path, '{dir}'), exitCode };
}

function putFile(path: string, content: FileContent): void {
  if (content === FOLDER) {
    mkdirSync(path);
  } else if (typeof content === 'object' && 'linkTo' in content) {
    symlinkSync(content.linkTo, path);
  } else if (typeof content === 'object' && 'sparseBytes' in content) {
    writeFileSync(path, '');
    truncateSync(path, content.sparseBytes);
  } else {
    writeFileSync(path, content);
  }
}

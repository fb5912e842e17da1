/** Runs a program to its end, for scripts. */

/** stdout of a program that ends with 0; its `input` is all it reads. Throws a one-line Error with its last words. */
export async function runProgram(
  argv: readonly string[],
  options: { cwd?: string; env?: Readonly<Record<string, string>>; input?: string } = {},
): Promise<string> {
  const child = Bun.spawn([...argv], {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, LC_ALL: 'C', ...options.env },
    stdin: options.input === undefined ? 'ignore' : new TextEncoder().encode(options.input),
    stdout: 'pipe',
    stderr: 'pipe',
  });
  const [exitCode, output, errors] = await Promise.all([
    child.exited,
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if (exitCode === 0) return output;
  const reason = errors.trim().split('\n').at(-1) ?? '';
  throw new Error(`Cannot run ${argv.slice(0, 3).join(' ')}: exit code ${exitCode}, ${reason}`);
}

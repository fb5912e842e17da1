/** `volt doctor`: one line per check of this host. */
import { checkHost, EXIT_CODE, stdoutIsTerminal, type HostCheck } from '../api/index.ts';
import { writeStdout } from './output.ts';

const COLOUR = { ok: '32', warn: '33', fail: '31' } as const;

/** Returns the exit code: 1 if Volt cannot run on this host. */
export function doctor(flags: { readonly json?: true | undefined }): number {
  const checks = checkHost();
  const failed = checks.some((check) => check.state === 'fail');
  if (flags.json) {
    writeStdout(`${JSON.stringify({ ok: !failed, checks }, null, 2)}\n`);
  } else {
    const colour = stdoutIsTerminal() && !process.env['NO_COLOR'];
    const lines = checks.map((check) => formatCheck(check, colour));
    lines.push(failed ? 'This host cannot run Volt yet.' : 'This host can run Volt.');
    writeStdout(`${lines.join('\n')}\n`);
  }
  return failed ? EXIT_CODE.failed : EXIT_CODE.ok;
}

function formatCheck({ name, state, found, advice }: HostCheck, colour: boolean): string {
  const mark = state.padEnd(4);
  const painted = colour ? `\x1b[${COLOUR[state]}m${mark}\x1b[0m` : mark;
  return `${painted}  ${name}: ${found}${advice ? `; ${advice}` : ''}`;
}

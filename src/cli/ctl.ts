/** Declares `volt ctl`; its code is loaded when it is called. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';

const EXAMPLES = `
Examples:
  volt ps
  volt ctl web vcpus
  volt ctl /tmp/vm.sock pause 1 2
  volt ctl 4711 ipi --mode nmi --to 1
  volt ctl 4711 affinity 1 0-1,3
  volt ctl --json 4711 status`;

export function addCtlCommand(program: CommandUnknownOpts): void {
  program
    .command('ctl')
    .description('control a running guest through its control socket')
    .usage('[--json] <guest> <command> [args]')
    .argument('[words...]', 'name, process id or socket of a guest, a command, and its arguments')
    .helpOption(false)
    .allowUnknownOption()
    .addHelpText('after', EXAMPLES)
    .action(async (words, _flags, command) => {
      const { ctl } = await import('./ctl-commands.ts');
      process.exitCode = await ctl(words, command);
    });
}

/** Declares the commands for guests by name; their code is loaded when they are called. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';
import { InvalidArgument } from './flags.ts';

const CREATE_HELP = `
Examples:
  volt create web.json                then: volt start web
  volt create --name db vm.json

The file is checked and copied to /etc/volt/NAME.json, for users other than root
to ~/.config/volt/NAME.json; its paths become absolute. A file that is put there
by hand is as good.`;

const CONSOLE_HELP = `
Keys:
  Ctrl-A d       detach; the guest goes on
  Ctrl-A h       list these keys
  Ctrl-A Ctrl-A  send one Ctrl-A to the guest

Any number of terminals may read a console; one of them types. Recent output,
up to 256 KiB, comes first.`;

const START_HELP = `
Where systemd runs and the package's unit volt@NAME is installed, root's guests
of /etc/volt are started by it. Otherwise the guest becomes a process of its
own, whose output volt logs shows.`;

const WEB_HELP = `
Examples:
  volt web                            prints the URL to open, with its token
  volt web --listen 127.0.0.1:8006
  volt web --listen ./web.sock        elsewhere: ssh -L 8006:/PATH/web.sock HOST
  volt web --listen 0.0.0.0:8006 --tls-cert cert.pem --tls-key key.pem \\
    --password-file password

The page shows the guests that volt ps -a lists, and does what volt ctl can do.`;

const SCHEMA_HELP = `
Examples:
  volt config-schema > volt.schema.json

Then, as the first line of a configuration: "$schema": "./volt.schema.json".
The Debian package has the file at /usr/share/doc/volt/docs/volt.schema.json.`;

const MOST_SECONDS = 86_400;
const STOP_SECONDS = 90;

export function addGuestCommands(program: CommandUnknownOpts): void {
  addWebCommand(program);
  program.commandsGroup('Guests by name:');
  program
    .command('create')
    .description('define a guest: check a configuration file and keep it under a name')
    .argument('<file>', 'a configuration as for volt run --config')
    .option('--name <name>', "the guest's name (default: the name of the file without .json)")
    .option('--replace', 'replace an earlier definition of this name')
    .addHelpText('after', CREATE_HELP)
    .action(async (file, flags) => {
      const { create } = await import('./guests.ts');
      process.exitCode = create(file, flags);
    });
  program
    .command('start')
    .description('start a defined guest, by systemd or in the background; returns when it runs')
    .argument('<name>', 'name of the guest')
    .addHelpText('after', START_HELP)
    .action(async (name) => {
      const { start } = await import('./guests.ts');
      process.exitCode = await start(name);
    });
  program
    .command('stop')
    .description('press the power button, and end a guest that does not listen; returns when it has ended')
    .argument('<guest>', 'name, process id or socket of the guest')
    .option('--now', 'end it at once, without a shutdown')
    .option('--timeout <seconds>', 'how long to wait for its end', toSeconds, STOP_SECONDS)
    .action(async (guest, flags) => {
      const { stop } = await import('./guests.ts');
      process.exitCode = await stop(guest, flags);
    });
  program
    .command('restart')
    .description('stop a defined guest if it runs, and start it')
    .argument('<name>', 'name of the guest')
    .option('--now', 'end it at once, without a shutdown')
    .option('--timeout <seconds>', 'how long to wait for its end', toSeconds, STOP_SECONDS)
    .action(async (name, flags) => {
      const { restart } = await import('./guests.ts');
      process.exitCode = await restart(name, flags);
    });
  program
    .command('rm')
    .description('remove the definition and the log of a guest; its disks stay')
    .argument('<name>', 'name of the guest')
    .option('-f, --force', 'end it first if it runs')
    .action(async (name, flags) => {
      const { remove } = await import('./guests.ts');
      process.exitCode = await remove(name, flags);
    });
  program
    .command('logs')
    .description('print what a guest has written to its console, and what Volt said about it')
    .argument('<name>', 'name of the guest')
    .option('-f, --follow', 'go on until the guest ends')
    .option('-n, --lines <count>', 'only the last lines', toCount)
    .action(async (name, flags) => {
      const { logs } = await import('./logs.ts');
      process.exitCode = await logs(name, flags);
    });
  program
    .command('config')
    .description("print a guest's whole configuration, defaults included, as a configuration file")
    .argument('<guest>', 'name, process id or socket of the guest')
    .action(async (guest) => {
      const { config } = await import('./config.ts');
      process.exitCode = await config(guest);
    });
  program
    .command('config-schema')
    .description('print the JSON Schema of configuration files, for editors')
    .addHelpText('after', SCHEMA_HELP)
    .action(async () => {
      const { configSchema } = await import('./config-schema.ts');
      process.exitCode = await configSchema();
    });
  program
    .command('console')
    .description('attach this terminal to the console of a running guest; Ctrl-A d detaches')
    .argument('<guest>', 'name, process id or socket of the guest')
    .option('--read-only', 'do not type')
    .option('--take', 'type in place of the terminal that does now')
    .option('--no-history', 'do not print recent output first')
    .addHelpText('after', CONSOLE_HELP)
    .action(async (guest, flags) => {
      const { attach } = await import('./console.ts');
      process.exitCode = await attach(guest, flags);
    });
}

function addWebCommand(program: CommandUnknownOpts): void {
  program
    .command('web')
    .description('serve a page with all guests: what their vCPUs do, consoles, boots, tables; Ctrl-C ends it')
    .option(
      '--listen <addr|path>',
      'ADDRESS:PORT of loopback, or a path with a slash for a Unix socket; port 0 takes a free one',
      '127.0.0.1:0',
    )
    .option('--tls-cert <file>', 'certificate (PEM), with which other addresses are allowed too')
    .option('--tls-key <file>', 'its private key (PEM)')
    .option(
      '--password-file <file>',
      'password of at least 12 characters, which opens the page without the token',
    )
    .addHelpText('after', WEB_HELP)
    .action(async (flags) => {
      const { web } = await import('./web.ts');
      process.exitCode = await web(flags);
    });
}

function toSeconds(text: string): number {
  if (/^\d{1,5}$/.test(text) && Number(text) <= MOST_SECONDS) return Number(text);
  throw new InvalidArgument(`Expected whole seconds, at most ${MOST_SECONDS}.`);
}

function toCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgument('Expected a number of lines such as 100.');
}

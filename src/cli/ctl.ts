/** `volt ctl` as the list of commands knows it; what it does is loaded when it is called. */
import type { CommandUnknownOpts } from '@commander-js/extra-typings';

const COMMANDS = `
Commands:
  status                 what the guest is and whether it runs
  vcpus                  a line for each vCPU
  where                  where each vCPU is now; --symbols FILE for names of functions
  devices                virtio devices, their queues and counters
  regs <vcpu>            registers of a vCPU
  pause [vcpus...]       take vCPUs out of the guest; without numbers, all
  resume [vcpus...]      let them run again
  stop                   end the guest
  ipi                    send an interrupt; volt ctl <guest> ipi --help
  nmi [vcpu]             send an NMI; without a number, to all
  start-ap <vcpu> <vector>   start a waiting AP at vector x 0x1000
  affinity <vcpu> <cpus> pin a vCPU's thread to host CPUs
  nice <vcpu> <nice>     set the nice value of a vCPU's thread, -20 to 19
  mp-state <vcpu> <state> [vector]   set a paused vCPU's MP state as KVM knows it
  cpus <count>           plug or remove vCPUs until there are so many
  powerdown              press the power button
  events                 print what happens, one line of JSON each, until the guest ends

Examples:
  volt ps
  volt ctl 4711 vcpus
  volt ctl /tmp/vm.sock pause 1 2
  volt ctl 4711 ipi --mode fixed --vector 0x30 --to all --except 0
  volt ctl 4711 affinity 1 0-1,3
  volt ctl --json 4711 status`;

export function addCtlCommand(program: CommandUnknownOpts): void {
  program
    .command('ctl')
    .description('steer a running guest through its control socket')
    .usage('[--json] <path|pid> <command> [args]')
    .argument('[words...]', 'the socket or process id of a guest, a command and what belongs to it')
    .helpOption(false)
    .allowUnknownOption()
    .addHelpText('after', COMMANDS)
    .action(async (words, _flags, command) => {
      const { ctl } = await import('./ctl-commands.ts');
      process.exitCode = await ctl(words, command);
    });
}

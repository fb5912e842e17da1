/** Restores a machine in a process of its own: STATE MEMORY INPUT; prints what the guest prints until it ends. */
import { readFileSync } from 'node:fs';
import { HostResources } from '../../src/api/index.ts';
import { CollectedMachine, restoreMachine } from './saved-machine.ts';

const [state, memoryPath, input] = process.argv.slice(2) as [string, string, string];
const resources = new HostResources();
const machine = new CollectedMachine(restoreMachine({ file: readFileSync(state), memoryPath }, resources));
machine.vm.sendConsole(Buffer.from(input));
const { exitCode } = await machine.vm.ended;
process.stdout.write(await machine.end());
process.exitCode = exitCode;

/**
 * Plugs a vCPU into a running guest and takes it out again, many times, each time waiting until the guest says that
 * it ran something there. Usage: bun plug-rounds.ts SOCKET CONSOLE-FILE ROUNDS
 */
import { readFileSync } from 'node:fs';
import { connectControl } from '../../src/api/index.ts';

const [path = '', consoleFile = '', rounds = '0'] = process.argv.slice(2);
const client = await connectControl(path);
const { vcpus: count } = await client.call('status', {});
const isHere = `VOLT-GUEST cpu ${count} is here, ran on ${count}`;

for (let round = 1; round <= Number(rounds); round++) {
  const plugged = await client.call('cpus', { count: count + 1 });
  if (plugged.added[0] !== count) throw new Error(`round ${round}: ${JSON.stringify(plugged)}`);
  while (readFileSync(consoleFile, 'latin1').split(isHere).length - 1 < round) await Bun.sleep(20);
  const removed = await client.call('cpus', { count });
  if (removed.removed[0] !== count || removed.present !== count)
    throw new Error(`round ${round}: ${JSON.stringify(removed)}`);
  if (round % 50 === 0) console.error(`round ${round}`);
}
console.log(`${rounds} rounds`);
process.exit(0);

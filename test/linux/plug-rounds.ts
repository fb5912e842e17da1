/**
 * Plugs a vCPU into a running guest and takes it out again, many times, each time waiting until the guest says that
 * it ran something there. Usage: bun plug-rounds.ts SOCKET CONSOLE-FILE ROUNDS
 */
import { readFileSync } from 'node:fs';
import { connectControl } from '../../src/api/index.ts';

const [path = '', consoleFile = '', rounds = '0'] = process.argv.slice(2);
const client = await connectControl(path);
const { vcpus: count } = await client.call('status', {});
/** Resolves when the guest has said so for the `times`-th time: it looks around now and then only. */
const heard = async (words: string, times: number) => {
  while (readFileSync(consoleFile, 'latin1').split(words).length - 1 < times) await Bun.sleep(20);
};

for (let round = 1; round <= Number(rounds); round++) {
  const plugged = await client.call('cpus', { count: count + 1 });
  if (plugged.added[0] !== count) throw new Error(`round ${round}: ${JSON.stringify(plugged)}`);
  await heard(`VOLT-GUEST cpu ${count} is here, ran on ${count}`, round);
  const removed = await client.call('cpus', { count });
  if (removed.removed[0] !== count || removed.present !== count)
    throw new Error(`round ${round}: ${JSON.stringify(removed)}`);
  await heard(`VOLT-GUEST cpu ${count} is gone`, round);
  if (round % 50 === 0) console.error(`round ${round}`);
}
console.log(`${rounds} rounds`);
process.exit(0);

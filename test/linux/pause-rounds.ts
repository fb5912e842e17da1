/**
 * Pauses and resumes a guest many times over its control socket, beside the guest and so without a process for each
 * round. Usage: bun pause-rounds.ts SOCKET ROUNDS
 */
import { connectControl } from '../../src/api/index.ts';

const [path = '', rounds = '0'] = process.argv.slice(2);
const client = await connectControl(path);
for (let round = 0; round < Number(rounds); round++) {
  await client.call('pause', {});
  await client.call('resume', {});
}
console.log(`${rounds} rounds`);
process.exit(0);

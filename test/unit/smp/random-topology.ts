import type { Topology } from '../../../src/smp/topology.ts';
import type { Random } from '../support/random.ts';

/** A topology of at most `limit` CPUs, most of them not powers of two. */
export function randomTopology(random: Random, limit: number): Topology {
  const threadsPerCore = random.int(1, 4);
  const diesPerSocket = random.int(1, Math.min(4, Math.floor(limit / threadsPerCore)));
  const sockets = random.int(1, Math.min(4, Math.floor(limit / (threadsPerCore * diesPerSocket))));
  const coresPerDie = random.int(1, Math.floor(limit / (threadsPerCore * diesPerSocket * sockets)));
  return { sockets, diesPerSocket, coresPerDie, threadsPerCore };
}

/** Machines to build ACPI tables for. */
import type { AcpiCpu, AcpiInputs, AcpiNuma, AcpiPci } from '../../../src/acpi/acpi-inputs.ts';
import { GIB, guestAddress, PAGE_BYTES } from '../../../src/machine/address.ts';
import { LAYOUT } from '../../../src/machine/layout.ts';
import { planPci } from '../../../src/plan/plan-pci.ts';
import { placeCpus, type Topology } from '../../../src/smp/topology.ts';
import type { Random } from '../support/random.ts';
import { randomTopology } from '../smp/random-topology.ts';

/** One socket, one die, no threads. */
export function coresOnly(cpus: number): Topology {
  return { sockets: 1, diesPerSocket: 1, coresPerDie: cpus, threadsPerCore: 1 };
}

/** The places of a topology, of which the first `present` are there, dealt out to `nodes` nodes in turn. */
export function cpusOf(topology: Topology, present = Infinity, nodes = 0): AcpiCpu[] {
  return placeCpus(topology).map(({ index, apicId, socket, die, core, thread }) => ({
    uid: index,
    apicId,
    present: index < present,
    socket,
    die,
    core,
    thread,
    ...(nodes > 0 ? { node: index % nodes } : {}),
  }));
}

export function machineOf(cpus: readonly AcpiCpu[], more: Partial<AcpiInputs> = {}): AcpiInputs {
  return { cpus, bootCpu: 0, cpuHotplug: false, virtio: [], serial: true, ...more };
}

/** Nodes with a GiB each, 10 from themselves and 20 from the others. */
export function numaOf(nodes: number): AcpiNuma {
  const indices = Array.from({ length: nodes }, (_, i) => i);
  const matrix = (local: number, remote: number) =>
    indices.map((from) => indices.map((to) => (from === to ? local : remote)));
  return {
    memory: indices.map((node) => ({
      address: guestAddress(node < 3 ? node * GIB : (node + 1) * GIB),
      bytes: GIB,
      node,
    })),
    distances: matrix(10, 20),
    latency: matrix(80, 140),
    bandwidth: matrix(120_000, 60_000),
  };
}

export function virtioDevices(count: number): AcpiInputs['virtio'] {
  return Array.from({ length: count }, (_, i) => ({
    address: guestAddress(LAYOUT.virtio.address + i * PAGE_BYTES),
    bytes: PAGE_BYTES,
    gsi: 16 + i,
  }));
}

/** So many buses with all their slots. */
export function pciOf(buses: number): AcpiPci {
  return planPci({ buses, slots: [] }, [{ address: guestAddress(0), bytes: GIB }], []);
}

/** Any topology of at most `limit` CPUs, any of them the BSP and any number of the others absent. */
export function randomMachine(random: Random, limit: number): AcpiInputs {
  const nodes = random.int(0, 4);
  const cpus = cpusOf(randomTopology(random, limit), Infinity, nodes);
  const bootCpu = random.int(0, cpus.length - 1);
  const present = random.int(1, cpus.length);
  const inOrder = [cpus[bootCpu]!, ...cpus.filter((cpu) => cpu.uid !== bootCpu)];
  return machineOf(
    inOrder.map((cpu, i) => ({ ...cpu, present: i < present })),
    {
      bootCpu,
      cpuHotplug: random.int(0, 1) === 1,
      serial: random.int(0, 1) === 1,
      virtio: virtioDevices(random.int(0, 8)),
      ...(random.int(0, 1) === 1 ? { pci: pciOf(random.int(1, 2)) } : {}),
      ...(nodes > 0 ? { numa: numaOf(nodes) } : {}),
    },
  );
}

/** What the guest finds: topology and NUMA as a picture, and the tables, decoded as `volt inspect` does. */
import type { Inspection } from '../src/plan/inspection.ts';
import { address, bytes } from './format.ts';
import { useAnswer } from './use.ts';

type Cpu = Inspection['cpus'][number];

export function Machine({ guest, pid }: { readonly guest: string; readonly pid: number | undefined }) {
  const { answer, error } = useAnswer<Inspection>('inspection', guest, pid);
  if (error !== undefined) return <p class="problem">{error}</p>;
  if (!answer) return <p class="quiet">Loading…</p>;
  return (
    <section aria-label="Machine">
      <p>{answer.boot.summary}</p>
      <p class="code">{answer.boot.cmdline}</p>
      <h3>Topology</h3>
      <Topology cpus={answer.cpus} />
      <Numa inspection={answer} />
      <Tables inspection={answer} />
    </section>
  );
}

function groupBy<K>(cpus: readonly Cpu[], key: (cpu: Cpu) => K): [K, Cpu[]][] {
  const groups = new Map<K, Cpu[]>();
  for (const cpu of cpus) groups.set(key(cpu), [...(groups.get(key(cpu)) ?? []), cpu]);
  return [...groups];
}

function Topology({ cpus }: { readonly cpus: readonly Cpu[] }) {
  return (
    <div class="topology">
      {groupBy(cpus, ({ socket }) => socket).map(([socket, inSocket]) => (
        <div key={socket} class="box socket">
          <b>Socket {socket}</b>
          {groupBy(inSocket, ({ die }) => die).map(([die, inDie]) => (
            <div key={die} class="box die">
              <b>Die {die}</b>
              {groupBy(inDie, ({ core }) => core).map(([core, inCore]) => (
                <div key={core} class="box core">
                  <b>Core {core}</b>
                  {inCore.map((cpu) => (
                    <span
                      key={cpu.index}
                      class={`thread node${(cpu.node ?? 0) % 6}${cpu.present ? '' : ' absent'}`}
                      title={`vCPU ${cpu.index}, APIC id ${cpu.apicId}${cpu.node === undefined ? '' : `, node ${cpu.node}`}${cpu.present ? '' : ', not plugged'}`}
                    >
                      {cpu.index}
                    </span>
                  ))}
                </div>
              ))}
            </div>
          ))}
        </div>
      ))}
    </div>
  );
}

function Numa({ inspection: { acpi, cpus } }: { readonly inspection: Inspection }) {
  const distances = acpi?.distances;
  if (!distances) return null;
  return (
    <>
      <h3>NUMA nodes</h3>
      <table class="numa">
        <thead>
          <tr>
            <th>Node</th>
            <th>vCPUs</th>
            <th class="number">Memory</th>
            {distances.map((_, node) => (
              <th key={node} class="number">
                to {node}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {distances.map((row, node) => {
            const memory = acpi.srat?.memory.filter((piece) => piece.node === node) ?? [];
            return (
              <tr key={node}>
                <th scope="row">
                  <span class={`thread node${node % 6}`}>{node}</span>
                </th>
                <td>
                  {cpus
                    .filter((cpu) => cpu.node === node)
                    .map(({ index }) => index)
                    .join(', ')}
                </td>
                <td class="number">{bytes(memory.reduce((sum, piece) => sum + piece.bytes, 0))}</td>
                {row.map((distance, other) => (
                  <td key={other} class="number" style={{ opacity: 10 / distance + 0.3 }}>
                    {distance}
                  </td>
                ))}
              </tr>
            );
          })}
        </tbody>
      </table>
    </>
  );
}

function Tables({ inspection }: { readonly inspection: Inspection }) {
  const { acpi, mpTables, map, cpus, devices, problems } = inspection;
  return (
    <>
      <h3>Tables</h3>
      <p>
        {problems.length === 0 ? 'Checksums, counts, ids and overlaps: no problems.' : problems.join(' ')}
      </p>
      <Details
        title={`ACPI: ${acpi?.tables.length ?? 'no'} tables`}
        columns={['Table', 'Address', 'Bytes', 'Revision']}
      >
        {(acpi?.tables ?? []).map(({ signature, address: at, bytes: size, revision }) => [
          signature,
          address(at),
          String(size),
          String(revision),
        ])}
      </Details>
      <Details
        title={`MP tables: ${mpTables?.configTable?.entries.length ?? 'no'} entries`}
        columns={['Entry', 'Content']}
      >
        {(mpTables?.configTable?.entries ?? []).map(({ type, ...content }) => [
          type,
          Object.entries(content)
            .map(([name, value]) => `${name} ${String(value)}`)
            .join(', '),
        ])}
      </Details>
      <Details
        title={`CPUs: ${cpus.length}`}
        columns={['vCPU', 'APIC id', 'Socket', 'Die', 'Core', 'Thread', 'CPUID']}
      >
        {cpus.map((cpu) => [
          `${cpu.index}${cpu.bsp ? ' BSP' : ''}`,
          ...[cpu.apicId, cpu.socket, cpu.die, cpu.core, cpu.thread].map(String),
          cpu.cpuid.levels
            .map((level) => `${level.type} ${level.logicalProcessors}>>${level.shift}`)
            .join(', '),
        ])}
      </Details>
      <Details title={`Memory map: ${map.length} ranges`} columns={['Address', 'Size', 'What', 'From']}>
        {map.map((row) => [address(row.address), bytes(row.bytes), row.name, row.from])}
      </Details>
      <Details title={`Devices: ${devices.length}`} columns={['Device', 'Address', 'Interrupt']}>
        {devices.map(({ id, kind, address: at, gsi }) => [`${kind} ${id}`, address(at), `GSI ${gsi}`])}
      </Details>
    </>
  );
}

function Details(props: {
  readonly title: string;
  readonly columns: readonly string[];
  readonly children: readonly (readonly string[])[];
}) {
  const { title, columns, children } = props;
  return (
    <details>
      <summary>{title}</summary>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              {columns.map((column) => (
                <th key={column}>{column}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {children.map((row, i) => (
              <tr key={i}>
                {row.map((cell, j) => (
                  <td key={j} class="code">
                    {cell}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

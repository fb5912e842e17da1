/**
 * Requests to Firecracker with the answers that it gave, sent to Volt in the same order. Answers are compared byte by
 * byte, but for ids, versions and paths.
 */
import { expect, setDefaultTimeout, test } from 'bun:test';
import recorded from '../../vectors/firecracker/exchanges.json';
import { FirecrackerChild, isRoot, kvmOpens } from './microvm.ts';

/** For hangs only. */
setDefaultTimeout(120_000);

interface Exchange {
  readonly request?: string;
  readonly raw?: string;
  readonly body?: string;
  readonly status: number;
  readonly deprecated?: boolean;
  readonly continued?: boolean;
  readonly answer?: string;
}

const NO_MEMORY_HOTPLUG = 'Volt has no virtio-mem device, so /hotplug/memory is refused';
/** Deliberate differences: a part of the answer that Firecracker gave, Volt's, and why. */
const DIFFERENCES: readonly {
  readonly request: string;
  readonly body?: string;
  readonly status?: number;
  readonly answer: (recorded: string) => string | undefined;
  /** Whether a position in the body differs, and with it the answer's length. */
  readonly position?: boolean;
  readonly why: string;
}[] = [
  {
    request: 'PUT /boot-source',
    body: '{"kernel_image_path": "$KERNEL", "x": 1}',
    answer: hidePosition,
    position: true,
    why: 'the column follows from the length of the path',
  },
  {
    request: 'PUT /hotplug/memory',
    body: '{"total_size_mib": 256}',
    status: 400,
    answer: () => '{"fault_message":"The requested operation is not supported: memory hotplug"}',
    why: NO_MEMORY_HOTPLUG,
  },
  {
    request: 'GET /hotplug/memory',
    status: 400,
    answer: (text) =>
      text.includes('before starting')
        ? text
        : '{"fault_message":"Internal VMM error: Failed perform action on device: Device not found"}',
    why: NO_MEMORY_HOTPLUG,
  },
  {
    request: 'PATCH /hotplug/memory',
    status: 400,
    answer: () =>
      '{"fault_message":"Memory hotplug update error: Failed perform action on device: Device not found"}',
    why: NO_MEMORY_HOTPLUG,
  },
  {
    request: 'GET /vm/config',
    answer: (text) => text.replace(/"memory-hotplug":\{[^}]*\}/, '"memory-hotplug":null'),
    why: NO_MEMORY_HOTPLUG,
  },
];

test.skipIf(!kvmOpens || !isRoot)(
  'Volt answers as Firecracker did to more than a hundred requests (needs /dev/kvm, root)',
  async () => {
    await using volt = await FirecrackerChild.start(['--id', 'gold-1', '--metrics-path', '$D/metrics'], {
      taps: ['tap0'],
    });
    const fill = (text: string) =>
      text
        .replaceAll('$D', volt.folder.path)
        .replaceAll('$KERNEL', volt.kernel)
        .replaceAll('$ID', 'gold-1')
        .replaceAll('$VERSION', '1.17.0-dev');
    const expected: string[] = [];
    const answers: string[] = [];

    for (const exchange of recorded as readonly Exchange[]) {
      const difference = DIFFERENCES.find(
        ({ request, body }) => request === exchange.request && (body === undefined || body === exchange.body),
      );
      const { text } =
        exchange.raw === undefined
          ? await volt.request(
              ...(exchange.request!.split(' ') as [string, string]),
              exchange.body === undefined ? undefined : fill(exchange.body),
            )
          : await volt.raw(exchange.raw, exchange.continued ? 2 : 1);
      const name = `${exchange.request ?? exchange.raw} ${(exchange.body ?? '').slice(0, 100)}`;
      expected.push(`${name}\n${formatExpected(exchange, difference, fill)}`);
      answers.push(`${name}\n${sortDrives(difference?.position ? hidePosition(text) : text)}`);
    }

    expect(answers).toEqual(expected);
  },
);

function formatExpected(
  { status, deprecated, answer }: Exchange,
  difference: (typeof DIFFERENCES)[number] | undefined,
  fill: (text: string) => string,
): string {
  const given = answer === undefined ? undefined : fill(answer);
  const body = difference ? difference.answer(given ?? '') : given;
  const code = difference && body !== given ? (difference.status ?? status) : status;
  const content =
    body === undefined
      ? ''
      : `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`;
  const deprecation = deprecated ? 'Deprecation: true\r\n' : '';
  const text = `HTTP/1.1 ${code} \r\nServer: Firecracker API\r\nConnection: keep-alive\r\n${deprecation}${content}\r\n${body ?? ''}`;
  return sortDrives(difference?.position ? hidePosition(text) : text);
}

function hidePosition(text: string): string {
  return text
    .replace(/column \d+/, 'column $COLUMN')
    .replace(/Content-Length: \d+/, 'Content-Length: $LENGTH');
}

/** Firecracker lists the drives of a running guest in no particular order. */
function sortDrives(text: string): string {
  return text.replace(/"drives":\[(.*?)\],"boot-source"/, (_, drives: string) => {
    const sorted = drives.split(/,(?=\{"drive_id")/).sort();
    return `"drives":[${sorted.join(',')}],"boot-source"`;
  });
}

/** Ports of the host that user-mode networking forwards to the guest, and passt's arguments for them. (passt(1)) */
import * as v from 'valibot';
import { found, text } from '../../schema/values.ts';

/** Ports of the host, and the same number of ports of the guest. */
export interface PortForward {
  readonly protocol: 'tcp' | 'udp' | 'both';
  /** The host's address to listen on; undefined: all. */
  readonly address: string | undefined;
  readonly firstPort: number;
  readonly lastPort: number;
  /** The guest's port for the first one. */
  readonly guestPort: number;
}

const MAX_PORT = 65_535;
const FORWARD = /^(?:(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:.]{2,45}\]):)?(\d{1,5}):(\d{1,5})(\/tcp|\/udp)?$/i;
const PORTS = /^(\d{1,5})(?:-(\d{1,5}))?$/;

/** An item of `forward`: [ADDRESS:]PORT:GUEST-PORT[/udp]. */
export const ForwardSchema = v.pipe(
  text,
  v.rawTransform(({ dataset, addIssue, NEVER }): PortForward => {
    const match = FORWARD.exec(dataset.value);
    const address = match?.[1]?.replace(/^\[|\]$/g, '');
    const [port, guestPort] = [Number(match?.[2]), Number(match?.[3])];
    const isAddress = address === undefined || isIp(address);
    if (!match || !isAddress || !isPort(port) || !isPort(guestPort)) {
      addIssue({
        message: `${found(dataset.value)} (expected a port of the host and one of the guest, such as 8080:80, 127.0.0.1:8080:80 or 5353:53/udp)`,
      });
      return NEVER;
    }
    const protocol = match[4]?.toLowerCase() === '/udp' ? 'udp' : 'tcp';
    return { protocol, address, firstPort: port, lastPort: port, guestPort };
  }),
);

/** An item of `ports`: PORT or FIRST-LAST, which are the same in the guest. */
export const PortsSchema = v.pipe(
  text,
  v.rawTransform(({ dataset, addIssue, NEVER }): PortForward => {
    const match = PORTS.exec(dataset.value);
    const first = Number(match?.[1]);
    const last = Number(match?.[2] ?? match?.[1]);
    if (!match || !isPort(first) || !isPort(last) || last < first) {
      addIssue({
        message: `${found(dataset.value)} (expected a port such as 80, or ports such as 8000-8010)`,
      });
      return NEVER;
    }
    return { protocol: 'both', address: undefined, firstPort: first, lastPort: last, guestPort: first };
  }),
);

function isPort(port: number): boolean {
  return port >= 1 && port <= MAX_PORT;
}

function isIp(address: string): boolean {
  return URL.canParse(`http://${address.includes(':') ? `[${address}]` : address}/`);
}

/** The first port of the host that two entries want, with the protocol; undefined: none. */
export function sharedPort(forwards: readonly PortForward[]): string | undefined {
  const wanted = new Map<string, PortForward>();
  for (const forward of forwards) {
    for (const protocol of protocolsOf(forward)) {
      for (let port = forward.firstPort; port <= forward.lastPort; port++) {
        const key = `${port}/${protocol}`;
        const other = wanted.get(key);
        if (other && (other.address === forward.address || !other.address || !forward.address)) return key;
        wanted.set(key, forward);
      }
    }
  }
  return undefined;
}

function protocolsOf({ protocol }: PortForward): readonly ('tcp' | 'udp')[] {
  return protocol === 'both' ? ['tcp', 'udp'] : [protocol];
}

/** Nothing is forwarded that was not asked for: by default passt forwards UDP ports with the numbers of TCP ports. */
export function passtArguments(forwards: readonly PortForward[]): string[] {
  const of = (protocol: 'tcp' | 'udp') => {
    const chosen = forwards.filter((forward) => protocolsOf(forward).includes(protocol));
    const specs = chosen.length > 0 ? chosen.map(toSpec) : ['none'];
    return specs.flatMap((spec) => [`--${protocol}-ports`, spec]);
  };
  return forwards.length === 0 ? [] : [...of('tcp'), ...of('udp')];
}

function toSpec({ address, firstPort, lastPort, guestPort }: PortForward): string {
  const range = lastPort > firstPort ? `${firstPort}-${lastPort}` : `${firstPort}`;
  const target = guestPort === firstPort ? '' : `:${guestPort}`;
  return `${address === undefined ? '' : `${address}/`}${range}${target}`;
}

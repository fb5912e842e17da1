/**
 * The metadata service: answers a guest's HTTP requests from the metadata store, with session tokens in version 2 and in
 * the format of EC2's IMDS where that is wanted. (Firecracker, docs/mmds/mmds-user-guide.md)
 */
import { formatValue, isList, isObject, type JsonValue } from '../../../json/value.ts';

export interface MmdsSettings {
  readonly version: 'V1' | 'V2';
  /** Answers every request in IMDS's format, whatever it accepts. */
  readonly imdsCompat: boolean;
}

export interface MmdsEffects {
  /** The metadata. */
  value(): JsonValue;
  /** A token that is valid for so long. */
  createToken(seconds: number): string;
  isValidToken(token: string): boolean;
}

const TTL = { min: 1, max: 21_600 } as const;
const TOKEN_PATH = '/latest/api/token';
const METHODS = ['GET', 'PUT', 'PATCH', 'DELETE'];
type ContentType = 'text/plain' | 'application/json';

interface Request {
  readonly method: string;
  readonly version: string;
  readonly path: string;
  readonly accept: ContentType;
  /** Fields that HTTP itself does not use, by lower-case names. */
  readonly custom: ReadonlyMap<string, string>;
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly type?: ContentType;
  /** Lines of further fields. */
  readonly fields?: readonly string[];
  readonly version?: string;
}

/** The answer to the first request in `bytes` and the bytes that it takes; undefined while its head is incomplete. */
export function answerMmds(
  bytes: Uint8Array,
  settings: MmdsSettings,
  effects: MmdsEffects,
): { readonly taken: number; readonly response: Uint8Array } | undefined {
  const text = Buffer.from(bytes).toString('latin1');
  const end = /\n\r?\n/.exec(text);
  if (!end) return undefined;
  const taken = end.index + end[0].length;
  return { taken, response: format(answer(text.slice(0, end.index), settings, effects)) };
}

function answer(head: string, settings: MmdsSettings, effects: MmdsEffects): Answer {
  const request = parse(head);
  if ('status' in request) return request;
  const { version } = request;
  return { ...route(request, settings, effects), version };
}

function route(request: Request, settings: MmdsSettings, effects: MmdsEffects): Answer {
  if (request.path === '') return { status: 400, body: 'Invalid URI.' };
  switch (request.method) {
    case 'GET':
      return get(request, settings, effects);
    case 'PUT':
      return put(request, effects);
    default:
      return { status: 405, body: 'Not allowed HTTP method.', fields: ['Allow: GET, PUT'] };
  }
}

function get(request: Request, { version, imdsCompat }: MmdsSettings, effects: MmdsEffects): Answer {
  if (version === 'V2') {
    const token = request.custom.get('x-metadata-token') ?? request.custom.get('x-aws-ec2-metadata-token');
    if (token === undefined)
      return {
        status: 401,
        body: 'No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token.',
      };
    if (!effects.isValidToken(token)) return { status: 401, body: 'MMDS token not valid.' };
  }
  const found = lookUp(effects.value(), request.path.replace(/\/{2,}/g, '/'));
  if (found === undefined) return { status: 404, body: `Resource not found: ${request.path}.` };
  const type = request.accept;
  if (type === 'application/json' && !imdsCompat) return { status: 200, body: formatValue(found), type };
  const imds = formatImds(found);
  return imds === undefined
    ? { status: 501, body: 'Cannot retrieve value. The value has an unsupported type.' }
    : { status: 200, body: imds, type };
}

/** The value at a JSON pointer, whose final slash is left out. (RFC 6901) */
function lookUp(value: JsonValue, path: string): JsonValue | undefined {
  const pointer = path.endsWith('/') ? path.slice(0, -1) : path;
  let at: JsonValue | undefined = value;
  if (pointer === '') return at;
  for (const word of pointer.slice(1).split('/')) {
    const key = word.replaceAll('~1', '/').replaceAll('~0', '~');
    if (at === null || typeof at !== 'object') return undefined;
    if (isObject(at)) at = at.get(key);
    else if (isList(at)) at = /^(?:0|[1-9]\d{0,9})$/.test(key) ? at[Number(key)] : undefined;
    else return undefined;
    if (at === undefined) return undefined;
  }
  return at;
}

/** An object as the list of its keys, those of objects with a slash; a string as it is. */
function formatImds(value: JsonValue): string | undefined {
  if (typeof value === 'string') return value;
  if (value === null || typeof value !== 'object' || !isObject(value)) return undefined;
  return [...value]
    .map(([key, item]) => (item !== null && typeof item === 'object' && isObject(item) ? `${key}/` : key))
    .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .join('\n');
}

function put({ path, custom }: Request, effects: MmdsEffects): Answer {
  if (custom.has('x-forwarded-for'))
    return { status: 400, body: 'Invalid header. Reason: Unsupported header name. Key: X-Forwarded-For' };
  if (path.replace(/\/{2,}/g, '/') !== TOKEN_PATH)
    return { status: 404, body: `Resource not found: ${path}.` };
  const name = ['x-metadata-token-ttl-seconds', 'x-aws-ec2-metadata-token-ttl-seconds'].find((each) =>
    custom.has(each),
  );
  if (name === undefined)
    return {
      status: 400,
      body: "Token time to live value not found. Use `X-metadata-token-ttl-seconds` or `X-aws-ec2-metadata-token-ttl-seconds` header to specify the token's lifetime.",
    };
  const text = custom.get(name)!;
  const seconds = /^\+?\d{1,10}$/.test(text) ? Number(text) : NaN;
  if (!(seconds <= 0xffff_ffff))
    return { status: 400, body: `Invalid header. Reason: Invalid value. Key:${name}; Value:${text}` };
  if (seconds < TTL.min || seconds > TTL.max)
    return {
      status: 400,
      body: `Invalid time to live value provided for token: ${seconds}. Please provide a value between ${TTL.min} and ${TTL.max}.`,
    };
  return { status: 200, body: effects.createToken(seconds), fields: [`${name}: ${seconds}`] };
}

/** The request, or the answer to one that is malformed. */
function parse(head: string): Request | Answer {
  const [line = '', ...fields] = head.split(/\r?\n/);
  const match = /^([^ ]*) ([^ ]*) (.*?)\r?$/.exec(line);
  if (!match) return { status: 400, body: 'Invalid request.' };
  const [, method = '', target = '', version = ''] = match;
  if (!METHODS.includes(method)) return { status: 501, body: 'Unsupported HTTP method.' };
  if (target === '') return { status: 400, body: 'Empty URI not allowed.' };
  if (version !== 'HTTP/1.0' && version !== 'HTTP/1.1')
    return { status: 501, body: 'Unsupported HTTP version.' };
  const custom = new Map<string, string>();
  let accept: ContentType = 'text/plain';
  for (const field of fields.map((each) => each.replace(/\r$/, ''))) {
    const colon = field.indexOf(':');
    if (colon < 0) return { status: 400, body: `Header is incorrectly formatted. Key: ${field}` };
    const name = field.slice(0, colon).trim().toLowerCase();
    const value = field.slice(colon + 1).trim();
    if (name === 'accept') accept = value === 'application/json' ? value : accept;
    // A request with a body is refused: the service takes none.
    else if (name === 'content-length' && value !== '0') return { status: 400, body: 'Invalid request.' };
    else custom.set(name, value);
  }
  return { method, version, path: absolutePath(target), accept, custom };
}

function absolutePath(target: string): string {
  const scheme = 'http://';
  if (!target.startsWith(scheme)) return target.startsWith('/') ? target : '';
  const slash = target.indexOf('/', scheme.length);
  return slash < 0 ? '' : target.slice(slash);
}

function format({
  status,
  body,
  type = 'text/plain',
  fields = [],
  version = 'HTTP/1.1',
}: Answer): Uint8Array {
  const bytes = Buffer.from(body, 'utf8');
  const lines = [
    `${version} ${status} `,
    'Server: Firecracker API',
    'Connection: keep-alive',
    ...fields,
    `Content-Type: ${type}`,
    `Content-Length: ${bytes.length}`,
    '',
    '',
  ];
  return Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), bytes]);
}

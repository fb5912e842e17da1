/** What comes over the socket of a pool: requests to its processes, and answers to whoever has asked. */
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  HEADER,
  MAX_REQUEST_BYTES,
  requestBytes,
} from '../../../src/api/pool/protocol.ts';
import type { FuzzTarget } from '../target.ts';

const REQUESTS = [
  { words: ['restore', 'web.snap', '--control'], env: { PATH: '/bin', HOME: '/root' }, executable: '1:2' },
  { words: [], env: {} },
].map(encodeRequest);

const ANSWERS = [
  encodeAnswer({ kind: 'ready', pid: 4711 }),
  encodeAnswer({ kind: 'refused', why: 'its user is another one' }),
  encodeAnswer({ kind: 'exit', code: 143 }),
];

export const poolTarget: FuzzTarget = {
  name: 'pool',
  what: 'requests to the processes of a pool, and their answers',
  seeds: () => [...REQUESTS, ...ANSWERS],
  words: ['VPL1', '"words":[', '"env":{', '"__proto__":', '"kind":"exit"', '"pid":', '\\u0000', '=', '1e999'],
  run: (input) => {
    const announced = requestBytes(input.subarray(0, HEADER.size));
    if (announced !== undefined && announced > MAX_REQUEST_BYTES)
      throw new Error(`a request of ${announced} bytes is let through`);
    const request = decodeRequest(input.subarray(HEADER.size));
    const strings = request ? [...request.words, ...Object.entries(request.env).flat()] : [];
    if (strings.some((text) => typeof text !== 'string' || text.includes('\0')))
      throw new Error('a string that no system call takes is let through');
    const answer = decodeAnswer(input);
    if (answer?.kind === 'exit' && !(answer.code >= 0 && answer.code <= 255))
      throw new Error(`exit code ${answer.code} is let through`);
    return `${announced === undefined ? 'no header' : 'header'}, ${request ? 'request' : 'none'}, ${answer?.kind ?? 'none'}`;
  },
};

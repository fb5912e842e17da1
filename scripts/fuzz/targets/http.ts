/** What clients send to the metrics endpoint. */
import { answerTo } from '../../../src/api/metrics/http-server.ts';
import type { FuzzTarget } from '../target.ts';

const REQUESTS = [
  'GET /metrics HTTP/1.1\r\nHost: localhost:9100\r\nAccept: */*\r\n\r\n',
  'HEAD /metrics?x=1 HTTP/1.0\n\n',
  'POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 5\r\n\r\nhello',
  'GET http://[/ HTTP/1.1\r\nHost: [\r\n\r\n',
];

export const httpTarget: FuzzTarget = {
  name: 'http',
  what: 'requests to the metrics endpoint',
  seeds: () => REQUESTS.map((text) => Buffer.from(text, 'latin1')),
  words: ['GET ', ' HTTP/1.1', '\r\n', '\r\n\r\n', 'Host: ', '[', ']', ':', '/metrics', '\0', '%'],
  run: (input) => {
    const answer = answerTo(input, (path) => ({ status: path === '/metrics' ? 200 : 404, body: path }));
    if (!answer) return 'waits';
    const status = /^HTTP\/1\.1 (\d{3}) /.exec(Buffer.from(answer).toString('latin1'))?.[1];
    if (status === undefined) throw new Error('an answer without a status line');
    return status;
  },
};

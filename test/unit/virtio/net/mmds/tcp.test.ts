/** The metadata service, asked by curl through this host's TCP. */
import { describe, expect, setDefaultTimeout } from 'bun:test';
import { resolve } from 'node:path';
import { testNeeding } from '../../../../support/needs.ts';

/** For hangs only. */
setDefaultTimeout(60_000);
const needs = testNeeding(
  'root, curl, unshare and /dev/net/tun',
  process.getuid?.() !== 0 || Bun.which('curl') === null || Bun.which('unshare') === null,
);
const SERVER = resolve(import.meta.dir, 'served-tap.ts');

/** Runs shell commands beside the service, in its namespace; returns what they print. */
async function askIn(version: 'V1' | 'V2', metadata: unknown, commands: string): Promise<string> {
  const script = `"$0" "$1" "$2" "$3" & server=$!; while ! ip addr show tap0 2>&1 | grep -q 169.254.1.1; do sleep 0.05; done; sleep 0.2; ${commands}; kill $server`;
  await using child = Bun.spawn(
    ['unshare', '-n', 'sh', '-c', script, process.execPath, SERVER, version, JSON.stringify(metadata)],
    { stdout: 'pipe', stderr: 'pipe' },
  );
  return (await new Response(child.stdout).text()).replace(/^ready\n/, '');
}

const get = (path: string, more = '') => `curl -sS -m 20 ${more} http://169.254.169.254${path}`;

describe('metadata through TCP', () => {
  needs('small ones and ones of many segments arrive as they are', async () => {
    const long = 'x'.repeat(45_000);
    const commands = `${get('/a')}; echo; ${get('/long')} | md5sum; ${get('/')}; echo; ${get('/none')}`;

    const output = await askIn('V1', { a: 'hello', long, b: { c: 1 } }, commands);

    const hash = new Bun.CryptoHasher('md5').update(long).digest('hex');
    expect(output).toBe(`hello\n${hash}  -\na\nb/\nlong\nResource not found: /none.`);
  });

  needs('two requests on one connection are both answered', async () => {
    const output = await askIn('V1', { a: 'one', b: 'two' }, get('/a', '-w "\\n" http://169.254.169.254/b'));

    expect(output).toBe('two\none\n');
  });

  needs('version 2 answers with a token alone', async () => {
    const commands = [
      get('/a'),
      'echo',
      `token=$(${get('/latest/api/token', '-X PUT -H "X-metadata-token-ttl-seconds: 60"')})`,
      get('/a', '-H "X-metadata-token: $token" -H "Accept: application/json"'),
      'echo',
      get('/a', '-H "X-aws-ec2-metadata-token: wrong"'),
    ].join('; ');

    const output = await askIn('V2', { a: { b: 1.0 } }, commands);

    expect(output).toBe(
      'No MMDS token provided. Use `X-metadata-token` or `X-aws-ec2-metadata-token` header to specify the session token.\n{"b":1}\nMMDS token not valid.',
    );
  });

  needs('another port is refused at once', async () => {
    const output = await askIn('V1', {}, 'curl -s -m 20 http://169.254.169.254:81/; echo $?');

    expect(output).toBe('7\n');
  });
});

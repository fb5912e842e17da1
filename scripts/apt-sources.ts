/**
 * Debian's archives as this machine's apt knows them, so that mirrors and proxies stay the administrator's choice.
 */
import { ensurePackages } from './host-packages.ts';
import { runProgram } from './run-program.ts';

/** One line of a sources.list for each archive that apt has, by the fields of apt's own index. */
const FORMAT = '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)';

/**
 * Lines of a sources.list for a suite of Debian's own and its updates; archives of others are left out.
 * Throws when apt has none, or when its lists are empty and only root may renew them.
 */
export async function debianSources(suite: string): Promise<string[]> {
  await ensurePackages(['apt-get']);
  const list = () => runProgram(['apt-get', 'indextargets', '--format', FORMAT, 'Created-By: Packages']);
  let sources = readSources(await list(), suite);
  if (sources.length === 0 && process.getuid?.() === 0) {
    process.stderr.write('Renewing the Debian package lists\n');
    await runProgram(['apt-get', 'update', '-q']);
    sources = readSources(await list(), suite);
  }
  if (sources.length > 0) return sources;
  throw new Error(`Cannot find Debian ${suite}: not among the sources of apt-get (expected in /etc/apt)`);
}

/** From apt's answer in `FORMAT`. Before the first update apt does not know who an archive is from. */
export function readSources(indexTargets: string, suite: string): string[] {
  const lines = indexTargets
    .split('\n')
    .map((line) => line.split('|'))
    .filter(([origin, , release = '']) => origin === 'Debian' && isOfSuite(release, suite))
    .map(([, uri, release, component]) => `deb ${uri} ${release} ${component}`);
  return [...new Set(lines)];
}

/** `bookworm`, `bookworm-updates` and `bookworm-security`, but not what is only proposed or backported. */
function isOfSuite(release: string, suite: string): boolean {
  return [suite, `${suite}-updates`, `${suite}-security`].includes(release);
}

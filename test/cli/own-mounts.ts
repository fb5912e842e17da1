/** Runs commands in a mount namespace of their own, to change what they find in /dev without root. */

const UNSHARE = ['unshare', '--user', '--map-root-user', '--mount'];

/** A prefix for a command: it runs after the shell command `change`, which only it sees. */
export function inOwnMounts(change: string): string[] {
  return [...UNSHARE, 'sh', '-c', `${change} && exec "$@"`, 'sh'];
}

/** Whether that works here, and there is a /dev/kvm to cover. */
export const canChangeMounts = succeeds([...inOwnMounts('mount --bind /dev/null /dev/kvm'), 'true']);

function succeeds(command: string[]): boolean {
  try {
    return Bun.spawnSync(command, { stdout: 'ignore', stderr: 'ignore' }).success;
  } catch {
    return false;
  }
}

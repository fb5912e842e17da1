/** Volt as `jailer`: runs a VMM in a chroot, as another user, in namespaces and cgroups. */
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  realpathSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { monotonicMicroseconds } from '../../ffi/clock.ts';
import { SyscallError } from '../../ffi/errno.ts';
import {
  createDeviceNode,
  joinNetworkNamespace,
  mount,
  MOUNT,
  pivotRoot,
  replaceProcess,
  switchUser,
  unshareMounts,
} from '../../ffi/jail.ts';
import { closeOnExec, setLimit, silenceStdio, spawnProgram, unsharePids } from '../../ffi/spawn.ts';
import { bindProgram } from '../bind-program.ts';
import { setUpCgroups } from './jailer-cgroups.ts';
import { ArgumentFault, formatHelp, parseArguments } from './model/arguments.ts';
import {
  JAILER_ARGUMENTS,
  JailerFault,
  toJailerOptions,
  type JailerOptions,
} from './model/jailer-options.ts';
import { FIRECRACKER_VERSION } from './model/version.ts';
import { describeOsError } from './os-error.ts';

const EXIT_FAILED = 1;
const OWN_PROGRAM = '/proc/self/exe';
const COMPARED_BYTES = 1 << 20;
/** Folders that belong to the jailed user. */
const FOLDERS = ['', 'dev', 'dev/net', 'run'];
/** Major and minor numbers. (Linux Documentation/admin-guide/devices.txt) */
const DEVICES = [
  ['dev/net/tun', 10, 200],
  ['dev/kvm', 10, 232],
  ['dev/urandom', 1, 9],
] as const;
/** RLIMIT_FSIZE, RLIMIT_NOFILE (asm-generic/resource.h) */
const RLIMIT = { fileBytes: 1, openFiles: 7 } as const;

/** Runs the command line behind the name. Returns an exit code, or does not return: the VMM replaces this process. */
export function runJailer(words: readonly string[]): number {
  const startUs = monotonicMicroseconds();
  try {
    const flags = parse(words);
    if (flags.only === 'help' || flags.only === 'version') {
      process.stdout.write(`Jailer v${FIRECRACKER_VERSION}\n\n`);
      if (flags.only === 'help')
        process.stdout.write(
          `${formatHelp(JAILER_ARGUMENTS)}\n\nAny arguments after the -- separator will be supplied to the jailed binary.\n\n`,
        );
      return 0;
    }
    return enter(toJailerOptions(flags), startUs);
  } catch (error) {
    const fault = toFault(error);
    process.stderr.write(`${fault.message}\nError: ${fault.kind}\n`);
    return EXIT_FAILED;
  }
}

function parse(words: readonly string[]) {
  try {
    return parseArguments(JAILER_ARGUMENTS, words);
  } catch (error) {
    if (!(error instanceof ArgumentFault)) throw error;
    throw new JailerFault(`ArgumentParsing(${error.debug})`, `Failed to parse arguments: ${error.message}`);
  }
}

function toFault(error: unknown): JailerFault {
  if (error instanceof JailerFault) return error;
  if (error instanceof SyscallError) return new JailerFault('Syscall', error.message);
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  return new JailerFault('Io', `Failed to use ${path}: ${describeOsError(error)}`);
}

function enter(options: JailerOptions, startUs: number): number {
  const { id, uid, gid } = options;
  const name = checkProgram(options.execFile);
  const root = join(canonicalBase(options.baseDirectory), name, id, 'root');
  if (options.cgroupFiles.length === 0 || options.cgroupVersion > 2)
    setUpCgroups(options, options.parentCgroup ?? name);
  mkdirSync(root, { recursive: true });
  const isOwn = isThisProgram(options.execFile);
  placeProgram(options, join(root, name), isOwn);
  if (options.netns !== undefined) joinNetwork(options.netns);
  setLimits(options);
  if (options.cgroupFiles.length > 0) setUpCgroups(options, options.parentCgroup ?? name);
  const nullFd = options.daemonize ? openSync('/dev/null', constants.O_RDWR) : undefined;
  const userfaultMinor = readUserfaultMinor();
  process.umask(0o022);
  unshareMounts();
  mount(root, root, '', MOUNT.bind | MOUNT.recursive);
  for (const folder of FOLDERS) setUpFolder(join(root, folder), uid, gid);
  for (const [path, major, minor] of DEVICES) makeDevice(root, path, major, minor, options);
  if (userfaultMinor !== undefined) makeDevice(root, 'dev/userfaultfd', 10, userfaultMinor, options);
  if (isOwn) bindOwnProgram(root, name);
  pivotRoot(root);
  const pidFile = createPidFile(`/${name}.pid`);
  const cpuUs = () => String(process.cpuUsage().user + process.cpuUsage().system);
  const argv = [
    `/${name}`,
    ...['--id', id],
    ...['--start-time-us', String(startUs)],
    ...['--start-time-cpu-us', '0'],
    ...['--parent-cpu-time-us', cpuUs()],
    ...options.rest,
  ];
  if (nullFd !== undefined) silenceStdio(nullFd);
  closeOnExec();
  if (options.newPidNamespace) {
    unsharePids();
    return startChild(argv, options, pidFile, isOwn);
  }
  if (options.daemonize) return startChild(argv, options, pidFile, false);
  writeSync(pidFile, String(process.pid));
  switchUser(uid, gid);
  return replaceProcess(argv[0]!, argv, ENVIRONMENT);
}

/** With `mountsProc`, the child is Volt and mounts /proc of its own PID namespace, as root, before it continues. */
function startChild(
  argv: readonly string[],
  { uid, gid, daemonize }: JailerOptions,
  pidFile: number,
  mountsProc: boolean,
): number {
  if (!mountsProc) switchUser(uid, gid);
  const words = mountsProc ? ['jailed', String(uid), String(gid), ...argv] : argv;
  writeSync(pidFile, String(spawnProgram(argv[0]!, words, ENVIRONMENT, daemonize)));
  return 0;
}

/** The first process of a jail's PID namespace: `UID GID PROGRAM WORDS…`. */
export function runJailed([uid = '', gid = '', ...argv]: readonly string[]): never {
  mount('none', '/proc', 'proc', MOUNT.noSuid | MOUNT.noDevices | MOUNT.noExecute);
  switchUser(Number(uid), Number(gid));
  return replaceProcess(argv[0]!, argv, ENVIRONMENT);
}

const ENVIRONMENT = ['PATH=/'];

/**
 * The name that the jail has of its program. A link to Volt keeps its own name, under which Volt is Firecracker; others
 * have the name of what they lead to, as in Firecracker.
 */
function checkProgram(path: string): string {
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    throw new JailerFault('Canonicalize', `Failed to canonicalize path ${path}: ${describeOsError(error)}`);
  }
  if (!statSync(real).isFile()) throw new JailerFault('NotAFile', `${real} is not a file`);
  return basename(isThisProgram(path) ? path : real);
}

/** The same file, or a copy of it. */
function isThisProgram(path: string): boolean {
  const [own, other] = [statSync(OWN_PROGRAM), statSync(path)];
  if (own.dev === other.dev && own.ino === other.ino) return true;
  return own.size === other.size && haveSameContent(OWN_PROGRAM, path);
}

function haveSameContent(one: string, other: string): boolean {
  const files = [openSync(one, 'r'), openSync(other, 'r')] as const;
  const [a, b] = [Buffer.alloc(COMPARED_BYTES), Buffer.alloc(COMPARED_BYTES)];
  try {
    for (;;) {
      const [ofA, ofB] = [readSync(files[0], a), readSync(files[1], b)];
      if (ofA !== ofB || a.compare(b, 0, ofB, 0, ofA) !== 0) return false;
      if (ofA === 0) return true;
    }
  } finally {
    files.forEach((fd) => closeSync(fd));
  }
}

function canonicalBase(path: string): string {
  let real: string;
  try {
    real = realpathSync(path);
  } catch (error) {
    throw new JailerFault('Canonicalize', `Failed to canonicalize path ${path}: ${describeOsError(error)}`);
  }
  if (!statSync(real).isDirectory()) throw new JailerFault('NotADirectory', `${real} is not a directory`);
  return real;
}

/** Copies the program, or makes the file that Volt's own is mounted on. */
function placeProgram({ execFile, uid, gid }: JailerOptions, target: string, isOwn: boolean): void {
  const existing = lstatSync(target, { throwIfNoEntry: false });
  if (existing?.isSymbolicLink())
    throw new JailerFault('Open', `Failed to open ${target}: ${describeOsError({ code: 'ELOOP' })}`);
  if (existing && existing.nlink > 1) throw new JailerFault('HardLink', `Detected hard link at: ${target}`);
  if (isOwn) writeFileSync(target, '');
  else copyFileSync(execFile, target);
  chownSync(target, uid, gid);
  chmodSync(target, statSync(execFile).mode & 0o7777);
}

/** Volt is a dynamic executable and reads /proc, so the jail gets both it and its libraries, read-only. */
function bindOwnProgram(root: string, name: string): void {
  bindProgram(root, `/${name}`);
  mkdirSync(join(root, 'proc'), { recursive: true });
  mount('none', join(root, 'proc'), 'proc', MOUNT.noSuid | MOUNT.noDevices | MOUNT.noExecute);
}

function joinNetwork(path: string): void {
  try {
    joinNetworkNamespace(path);
  } catch (error) {
    throw new JailerFault('SetNetNs', `Failed to join network namespace: netns: ${describeOsError(error)}`);
  }
}

function setLimits({ limits }: JailerOptions): void {
  if (limits.fileBytes !== undefined) setLimit(RLIMIT.fileBytes, limits.fileBytes);
  setLimit(RLIMIT.openFiles, limits.openFiles);
}

function setUpFolder(path: string, uid: number, gid: number): void {
  mkdirSync(path, { recursive: true });
  chmodSync(path, 0o700);
  chownSync(path, uid, gid);
}

function makeDevice(
  root: string,
  path: string,
  major: number,
  minor: number,
  { uid, gid }: JailerOptions,
): void {
  const target = join(root, path);
  if (existsSync(target))
    throw new JailerFault(
      'MknodDev',
      `Failed to create /${path} via mknod inside the jail: ${describeOsError({ code: 'EEXIST' })}`,
    );
  createDeviceNode(target, major, minor, uid, gid);
}

function readUserfaultMinor(): number | undefined {
  const minor = /^\s*(\d+) userfaultfd$/m.exec(readFileSync('/proc/misc', 'utf8'))?.[1];
  return minor === undefined ? undefined : Number(minor);
}

function createPidFile(path: string): number {
  try {
    return openSync(path, 'wx', 0o644);
  } catch (error) {
    throw new JailerFault('FileOpen', `Failed to open file ${path}: ${describeOsError(error)}`);
  }
}

/** Volt as `firecracker`: its flags, its API socket, its log, its exit codes. */
import { readFileSync } from 'node:fs';
import { monotonicMicroseconds } from '../../ffi/clock.ts';
import { SyscallError } from '../../ffi/errno.ts';
import { probeListener } from '../../ffi/unix-socket.ts';
import { createMmdsBuffer, writeMmds } from '../../virtio/net/mmds/store.ts';
import { VoltError } from '../../volt-error.ts';
import { Controller, RestoreFailure } from './controller.ts';
import { applyConfigFile } from './config-file.ts';
import { confineMicroVm } from './confine.ts';
import { handleRequest, type ApiParts } from './handle-request.ts';
import { HOST_CHECKS } from './host-checks.ts';
import { serveApi, type ApiServer } from './http-server.ts';
import { JsonFault } from '../../json/reader.ts';
import { parseShape } from '../../json/shapes.ts';
import { debugString } from '../../json/text.ts';
import { readValue } from '../../json/value.ts';
import { Logger, type Log } from './logger.ts';
import { Readiness } from './make-ready.ts';
import { Metrics } from './metrics.ts';
import {
  ArgumentFault,
  FIRECRACKER_ARGUMENTS,
  formatHelp,
  instanceIdProblem,
  parseArguments,
  type ParsedArguments,
} from './model/arguments.ts';
import { ActionFault } from './model/fault.ts';
import { MmdsStore } from './model/mmds-store.ts';
import { VmResources } from './model/resources.ts';
import { FIRECRACKER_VERSION, SNAPSHOT_VERSION } from './model/version.ts';
import { handleSignals } from './signals.ts';
import { describeOsError } from './os-error.ts';
import { logLevel } from './request/bodies.ts';

/** Exit codes. (Firecracker, FcExitCode in src/vmm/src/lib.rs) */
const EXIT = { ok: 0, failed: 1, badConfiguration: 152, badArguments: 153, panic: 134 } as const;

/** Ends the process: `message` is logged, `debug` printed on stderr. */
class Exit extends Error {
  readonly code: number;
  readonly debug: string;

  constructor(code: number, message: string, debug: string) {
    super(message);
    this.code = code;
    this.debug = debug;
  }
}

/** Runs the command line behind the name; returns the exit code of the process. */
export async function runFirecracker(words: readonly string[]): Promise<number> {
  let logger = new Logger('anonymous-instance');
  try {
    const flags = readArguments(words);
    const printed = await printOnly(flags);
    if (printed !== undefined) process.stdout.write(printed);
    else {
      const id = flags.value('id')!;
      const problem = instanceIdProblem(id);
      if (problem !== undefined) throw panic(`Invalid instance ID: ${problem}`);
      logger = new Logger(id);
      await runInstance(id, flags, logger);
    }
    logger.on('main').info('Firecracker exiting successfully. exit_code=0');
    return EXIT.ok;
  } catch (error) {
    const { code, message, debug } = toExit(error);
    const log = logger.on('main');
    log.error(message);
    if (debug !== '') process.stderr.write(`Error: ${debug}\n`);
    if (code !== EXIT.panic) log.error(`Firecracker exiting with error. exit_code=${code}`);
    return code;
  }
}

function toExit(error: unknown): Exit {
  if (error instanceof Exit) return error;
  if (error instanceof VoltError || error instanceof SyscallError)
    return new Exit(EXIT.failed, error.message, debugString(error.message));
  throw error;
}

/** What Firecracker ends with abort(3) for. */
function panic(message: string): Exit {
  return new Exit(EXIT.panic, `Firecracker panicked: ${message}`, '');
}

function readArguments(words: readonly string[]): ParsedArguments {
  try {
    return parseArguments(FIRECRACKER_ARGUMENTS, words);
  } catch (error) {
    if (!(error instanceof ArgumentFault)) throw error;
    throw new Exit(
      EXIT.badArguments,
      `Arguments parsing error: ${error.message} \\n\\nFor more information try --help.`,
      `ParseArguments(${error.debug})`,
    );
  }
}

/** The text of a flag that only prints; undefined: a microVM is wanted. */
async function printOnly(flags: ParsedArguments): Promise<string | undefined> {
  const version = `Firecracker v${FIRECRACKER_VERSION}\n\n`;
  if (flags.only === 'help') return `${version}${formatHelp(FIRECRACKER_ARGUMENTS)}\n`;
  if (flags.only === 'version') return version;
  if (flags.flag('snapshot-version')) return `v${SNAPSHOT_VERSION}\n`;
  const snapshot = flags.value('describe-snapshot');
  if (snapshot === undefined) return undefined;
  const refuse = (why: string, debug: string) =>
    new Exit(EXIT.failed, `When printing Snapshot Data format: ${why}`, `PrintSnapshotDataFormat(${debug})`);
  const { readSnapshotVersion } = await import('./load-snapshot.ts');
  try {
    return `v${readSnapshotVersion(snapshot)}\n`;
  } catch (error) {
    if (error instanceof VoltError)
      throw refuse(`Invalid data format version of snapshot file: ${error.message}`, 'SnapshotVersion');
    throw refuse(`Unable to open snapshot state file: ${describeOsError(error)}`, 'OpenSnapshot');
  }
}

async function runInstance(id: string, flags: ParsedArguments, logger: Logger): Promise<void> {
  const level = flags.value('level');
  const parsedLevel = level === undefined ? null : logLevel(level);
  if (parsedLevel === undefined)
    throw new Exit(
      EXIT.badConfiguration,
      `Invalid value for logger level: Failed to parse string to level filter: ${level}.Possible values: [Error, Warning, Info, Debug]`,
      `InvalidLogLevel(LevelFilterFromStrError(${debugString(level!)}))`,
    );
  try {
    logger.configure({
      log_path: flags.value('log-path') ?? null,
      level: parsedLevel,
      show_level: flags.flag('show-level') || null,
      show_log_origin: flags.flag('show-log-origin') || null,
      module: flags.value('module') ?? null,
    });
  } catch (error) {
    if (!(error instanceof ActionFault)) throw error;
    throw new Exit(EXIT.failed, `Could not initialize logger: ${error.message}`, 'LoggerInitialization');
  }
  const log = logger.on('main');
  log.info(`Running Firecracker v${FIRECRACKER_VERSION}`);
  const metrics = openMetrics(id, flags, logger);
  handleSignals(log, metrics);
  checkSeccomp(flags);
  const configFile = readNeeded(flags.value('config-file'), 'the configuration file');
  const metadata = readNeeded(flags.value('metadata'), 'the mmds content file');
  const maxBodyBytes = size(flags, 'http-api-max-payload-size')!;
  const mmdsBytes = size(flags, 'mmds-size-limit') ?? maxBodyBytes;
  const mmdsBuffer = createMmdsBuffer(mmdsBytes);
  const mmds = new MmdsStore(mmdsBytes, (text) => writeMmds(mmdsBuffer, text));
  const resources = new VmResources(HOST_CHECKS);
  const hasApi = !flags.flag('no-api');
  const readiness = hasApi && configFile === undefined ? new Readiness() : undefined;
  const controller = new Controller({
    ...{ id, resources, mmds, mmdsBuffer, logger, metrics, readiness, pci: flags.flag('enable-pci') },
    beforeStart: (machine) =>
      flags.flag('no-seccomp') ? undefined : confineMicroVm(machine.config, hasApi, log),
  });
  const server = hasApi
    ? listen(flags.value('api-sock')!, maxBodyBytes, { controller, logger, metrics })
    : undefined;
  readiness?.begin();
  try {
    if (metadata) {
      try {
        mmds.put(parseShape(metadata, { read: readValue }));
      } catch (error) {
        if (error instanceof JsonFault)
          throw panic(`MMDS error: metadata provided not valid json: ${error.message}`);
        throw error instanceof ActionFault ? metadataTooLong(hasApi, configFile !== undefined) : error;
      }
      log.info('Successfully added metadata to mmds from file');
    }
    if (configFile) startFromFile(configFile, hasApi, { controller, logger, metrics, resources, log });
    const { ended } = await awaitStart(controller, server);
    const end = await ended;
    log.info('Vmm is stopping.');
    metrics.flush();
    await server?.flush();
    for (const line of end.lines) log.error(line);
    if (end.kind === 'kvm-failure' || end.kind === 'failed')
      throw new Exit(
        EXIT.failed,
        `${hasApi ? 'RunWithApiError' : 'RunWithoutApiError'} error: MicroVM stopped with an error: GenericError`,
        hasApi
          ? 'RunWithApi(MicroVMStoppedWithError(GenericError))'
          : 'RunWithoutApiError(Shutdown(GenericError))',
      );
  } finally {
    server?.stop();
  }
}

async function awaitStart(controller: Controller, server: ApiServer | undefined) {
  try {
    return await controller.started;
  } catch (error) {
    if (!(error instanceof RestoreFailure)) throw error;
    // After the answer to the client.
    await Bun.sleep(0);
    await server?.flush();
    throw new Exit(
      EXIT.failed,
      'RunWithApiError error: Failed to build MicroVM: Loading snapshot failed..',
      'RunWithApi(BuildMicroVmError(Restore))',
    );
  }
}

function startFromFile(
  bytes: Uint8Array,
  hasApi: boolean,
  parts: ApiParts & { readonly resources: VmResources; readonly log: Log },
): void {
  try {
    applyConfigFile(bytes, parts);
    parts.controller.start();
  } catch (error) {
    if (!(error instanceof ActionFault) && !(error instanceof JsonFault)) throw error;
    const isStart = error.message.startsWith(START_PREFIX);
    const what =
      error instanceof JsonFault
        ? `Configuration for VMM from one single json failed: Invalid JSON: ${error.message}`
        : isStart
          ? `Start microvm error: ${error.message.slice(START_PREFIX.length)}`
          : `Configuration for VMM from one single json failed: ${error.message}`;
    throw new Exit(
      EXIT.failed,
      `${hasApi ? 'RunWithApiError error: Failed to build MicroVM from Json' : 'RunWithoutApiError error: Failed to build MicroVM from Json'}: ${what}`,
      `${hasApi ? 'RunWithApi(BuildFromJson' : 'RunWithoutApiError(BuildMicroVMFromJson'}(${isStart ? 'StartMicroVM' : 'ParseFromJson'}(${debugString(error.message)})))`,
    );
  }
  parts.log.info('Successfully started microvm that was configured from one single json');
}

function metadataTooLong(hasApi: boolean, hasConfigFile: boolean): Exit {
  const [words, debug] = hasApi
    ? ['RunWithApiError error: Failed to build MicroVM', 'RunWithApi(']
    : ['RunWithoutApiError error: Failed to build MicroVM', 'RunWithoutApiError('];
  const why = "The MMDS patch request doesn't fit.";
  if (!hasConfigFile)
    return new Exit(
      EXIT.failed,
      `${words}: Populating MMDS from file failed: ${why}..`,
      `${debug}BuildMicroVmError(PopulateMmds(DataStoreLimitExceeded)))`,
    );
  const build = hasApi ? 'BuildFromJson' : 'BuildMicroVMFromJson';
  return new Exit(
    EXIT.failed,
    `${words} from Json: Configuration for VMM from one single json failed: MMDS error: ${why}`,
    `${debug}${build}(ParseFromJson(Mmds(DataStoreLimitExceeded))))`,
  );
}

const START_PREFIX = 'Start microvm error: ';

function openMetrics(id: string, flags: ParsedArguments, logger: Logger): Metrics {
  const wall = number(flags, 'start-time-us');
  const cpu = number(flags, 'start-time-cpu-us');
  const parentCpu = number(flags, 'parent-cpu-time-us') ?? 0;
  const { user, system } = process.cpuUsage();
  const startup = {
    wall: wall === undefined ? 0 : Math.max(0, monotonicMicroseconds() - wall),
    cpu: cpu === undefined ? 0 : Math.max(0, user + system - cpu + parentCpu),
  };
  const metrics = new Metrics(id, startup, () => logger.missed);
  const path = flags.value('metrics-path');
  if (path === undefined) return metrics;
  try {
    metrics.configure({ metrics_path: path, emit_id: false, properties: null });
    return metrics;
  } catch (error) {
    if (!(error instanceof ActionFault)) throw error;
    const why = error.message.replace(/^Metrics error: /, '');
    throw new Exit(EXIT.failed, `Could not initialize metrics: ${why}`, 'MetricsInitialization');
  }
}

function checkSeccomp(flags: ParsedArguments): void {
  const path = flags.value('seccomp-filter');
  if (path === undefined) return;
  try {
    readFileSync(path);
  } catch (error) {
    throw new Exit(
      EXIT.failed,
      `Seccomp error: Could not open seccomp filter file: ${describeOsError(error)}`,
      'SeccompFilter(FileOpen)',
    );
  }
}

function readNeeded(path: string | undefined, what: string): Uint8Array | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path);
  } catch (error) {
    throw panic(`Unable to open or read from ${what}: ${describeOsError(error)}`);
  }
}

function number(flags: ParsedArguments, name: string): number | undefined {
  const text = flags.value(name);
  if (text === undefined) return undefined;
  if (!/^\+?\d{1,20}$/.test(text)) throw panic(`'${name}' parameter expected to be of 'u64' type.`);
  return Number(text);
}

function size(flags: ParsedArguments, name: string): number | undefined {
  const text = flags.value(name);
  if (text === undefined) return undefined;
  if (!/^\+?\d{1,20}$/.test(text)) throw panic(`'${name}' parameter expected to be of 'usize' type.`);
  return Number(text);
}

function listen(path: string, maxBodyBytes: number, parts: ApiParts): ApiServer {
  const refuse = (why: string, debug: string) =>
    new Exit(EXIT.failed, `RunWithApiError error: ${why}`, `RunWithApi(${debug})`);
  if (probeListener(path) !== 'missing')
    throw refuse(
      `Failed to open the API socket at: ${path}. Check that it is not already used.`,
      `FailedToBindSocket(${debugString(path)})`,
    );
  let server: ApiServer;
  try {
    server = serveApi({ path, maxBodyBytes, handle: (request) => handleRequest(request, parts) });
  } catch (error) {
    throw refuse(
      `Failed to bind and run the HTTP server: IO error: ${describeOsError(error)}`,
      'FailedToBindAndRunHttpServer',
    );
  }
  parts.logger.on('main').info(`Listening on API socket (${debugString(path)}).`);
  parts.logger.on('fc_api').info('API server started.');
  return server;
}

/** Answers one request of the API: reads it, carries it out, and says so in the log. */
import { toFaultResponse, type Controller } from './controller.ts';
import { faultResponse, type ApiResponse } from './http/response.ts';
import type { Log, Logger } from './logger.ts';
import type { Metrics } from './metrics.ts';
import { ActionFault } from './model/fault.ts';
import type { Action } from './request/action.ts';
import { describeRequest, parseRequest, type ApiRequest } from './request/parse.ts';

export interface ApiParts {
  readonly controller: Controller;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export async function handleRequest(request: ApiRequest, parts: ApiParts): Promise<ApiResponse> {
  const from = performance.now();
  const response = await handleTimed(request, parts, from);
  parts.logger.on('fc_api').debug(`Total previous API call duration: ${microsecondsSince(from)} us.`);
  return response;
}

function microsecondsSince(from: number): number {
  return Math.max(1, Math.round((performance.now() - from) * 1000));
}

async function handleTimed(
  request: ApiRequest,
  { controller, logger, metrics }: ApiParts,
  from: number,
): Promise<ApiResponse> {
  const log = logger.on('fc_api');
  log.info(`The API server received a ${describeRequest(request, logger.showsDebug)}.`);
  if (request.path.startsWith('/volt/')) {
    const { answerVoltRequest } = await import('./volt-requests.ts');
    return answerVoltRequest(request, controller);
  }
  const parsed = parseRequest(request, (counter) => metrics.count(counter));
  if (parsed.kind === 'refused') {
    log.error(parsed.log);
    return faultResponse(parsed.message);
  }
  const response = await answer(controller, parsed.action, log);
  const timed = timedAction(parsed.action);
  if (timed !== undefined && response.status === 204)
    log.info(`'${timed}' API request took ${microsecondsSince(from)} us.`);
  if (parsed.deprecation === undefined) return response;
  log.warn(parsed.deprecation);
  return { ...response, deprecated: true };
}

/** Actions whose time is logged. */
function timedAction(action: Action): string | undefined {
  switch (action.name) {
    case 'CreateSnapshot':
      return action.operand.snapshot_type === 'Full' ? 'create full snapshot' : 'create diff snapshot';
    case 'LoadSnapshot':
      return 'load snapshot';
    case 'Pause':
      return 'pause vm';
    case 'Resume':
      return 'resume vm';
    default:
      return undefined;
  }
}

async function answer(controller: Controller, action: Action, log: Log): Promise<ApiResponse> {
  try {
    const response = await controller.run(action);
    const words = response.status === 204 ? '204 No Content' : '200 OK';
    log.info(`The request was executed successfully. Status code: ${words}.`);
    return response;
  } catch (error) {
    const fault =
      error instanceof ActionFault
        ? error
        : new ActionFault(`Internal VMM error: ${error instanceof Error ? error.message : String(error)}`);
    const words = fault.status === 413 ? '413 Payload too large' : '400 Bad Request';
    log.error(`Received Error. Status code: ${words}. Message: ${fault.message}`);
    return toFaultResponse(fault);
  }
}

/** Asks the coordinator of a run, from its machine, for a credential for workers of other machines. */
import { type ServiceError, status } from '@grpc/grpc-js';
import { OrchestratorError } from '../errors.js';
import type { TokenRules } from '../security/tokens.js';
import { channelTarget } from './address.js';
import { LinkCredentials } from './links.js';
import { Coordinator, type Credential } from './proto.js';
import { controlOptions } from './transport.js';

const ANSWER_MS = 10_000;

/**
 * @param address The coordinator's on this machine.
 * @throws OrchestratorError ERR_USAGE if the run is for this machine alone, ERR_COORDINATOR_LOST if nobody answers.
 */
export async function invite(address: string, { worker, ...rules }: TokenRules): Promise<string> {
  const client = new Coordinator(channelTarget(address), new LinkCredentials(null, () => {}), controlOptions);
  try {
    return await new Promise((resolve, reject) => {
      const deadline = Date.now() + ANSWER_MS;
      const answered = (error: ServiceError | null, answer: Credential | undefined) => {
        if (error === null) resolve(answer!.line!);
        else reject(refusal(error));
      };
      client.Invite({ ...rules, worker: worker ?? '' }, { deadline }, answered);
    });
  } finally {
    client.close();
  }
}

function refusal({ code, details }: ServiceError): OrchestratorError {
  if (code === status.FAILED_PRECONDITION) {
    const hint =
      'Start it with --listen HOST:PORT, where HOST is an address of this machine that the others reach';
    return new OrchestratorError('ERR_USAGE', `No worker can be invited: ${details}`, hint);
  }
  if (code === status.INVALID_ARGUMENT || code === status.RESOURCE_EXHAUSTED) {
    return new OrchestratorError('ERR_TOKEN', `No worker can be invited: ${details}`);
  }
  return new OrchestratorError('ERR_COORDINATOR_LOST', `The coordinator does not answer: ${details}`);
}

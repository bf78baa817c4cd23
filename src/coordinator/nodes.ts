import { type Config, slotCount } from '../config/schema.js';
import { OrchestratorError } from '../errors.js';

/** A worker without a slot would only wait. */
export function checkNodes(config: Config, nodes: number): void {
  const slots = slotCount(config);
  if (nodes <= slots) return;
  const { global, micro } = config.batch;
  throw new OrchestratorError(
    'ERR_USAGE',
    `${nodes} nodes cannot share ${slots} slots (batch.global ${global} / batch.micro ${micro})`,
    { hint: `Use at most ${slots} nodes, or a smaller batch.micro.` },
  );
}

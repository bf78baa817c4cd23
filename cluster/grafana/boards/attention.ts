import type { Board } from '../board.js';
import { attention as q } from '../queries/attention.js';

const GROWTH =
  'A block that brightens step after step is about to diverge: lower the learning rate, and train with model.qk_norm.';
const COLLAPSE =
  'A block that darkens towards 0 looks at single tokens: its logits have grown too large. Higher than log(tokens) is impossible.';

export const attention: Board = {
  uid: 'orchestrator-attention',
  title: 'Orchestrator: Attention',
  description:
    'Logits and entropies by block and stream of the queries, every telemetry.attention_every steps; empty where that is 0.',
  rows: [
    {
      title: 'All blocks',
      panels: [
        {
          title: 'Largest logit and its bound',
          kind: 'line',
          unit: 'short',
          width: 8,
          queries: [q.largest, q.bound],
          description:
            'The largest |logit| by stream, and what QK-norm allows: 8 max |gamma_q gamma_k| (no line without model.qk_norm). If it doubles within an hour, find the block below and lower the learning rate.',
        },
        {
          title: 'Largest logit over its bound',
          kind: 'heat',
          unit: 'percentunit',
          width: 8,
          queries: [q.ofBound],
          description:
            'By block and stream; empty without model.qk_norm. Near 100 % queries and keys are parallel and the entropy collapses: then watch whether the bound grows, too.',
        },
        {
          title: 'Smallest mean entropy',
          kind: 'line',
          unit: 'suffix:nats',
          width: 8,
          queries: [q.smallestEntropy],
          description:
            'Of all blocks, by stream. Falling towards 0: attention collapses; find the block below.',
        },
      ],
    },
    {
      title: 'Queries of the image',
      panels: [
        {
          title: 'Image: largest logit',
          kind: 'heat',
          unit: 'short',
          width: 8,
          queries: [q.imageLogits],
          description: `Of the image's queries, over image and text keys. ${GROWTH}`,
        },
        {
          title: 'Image: bound by QK-norm',
          kind: 'heat',
          unit: 'short',
          width: 8,
          queries: [q.imageBound],
          description:
            'What the gammas allow; empty without model.qk_norm. It starts at 8; where it grows without end, weight decay on the gammas or a lower learning rate holds it.',
        },
        {
          title: 'Image: mean entropy',
          kind: 'heat',
          unit: 'suffix:nats',
          width: 8,
          queries: [q.imageEntropy],
          description: COLLAPSE,
        },
      ],
    },
    {
      title: 'Queries of the text',
      panels: [
        {
          title: 'Text: largest logit',
          kind: 'heat',
          unit: 'short',
          width: 8,
          queries: [q.textLogits],
          description: `Of the text's queries, over image and text keys; the last block has none. ${GROWTH}`,
        },
        {
          title: 'Text: bound by QK-norm',
          kind: 'heat',
          unit: 'short',
          width: 8,
          queries: [q.textBound],
          description: 'As for the image; the two streams have gammas of their own.',
        },
        {
          title: 'Text: mean entropy',
          kind: 'heat',
          unit: 'suffix:nats',
          width: 8,
          queries: [q.textEntropy],
          description: COLLAPSE,
        },
      ],
    },
    {
      title: "Second attention of dual blocks (the image's tokens alone)",
      panels: [
        {
          title: 'Second attention: largest logit',
          kind: 'heat',
          unit: 'short',
          width: 12,
          queries: [q.secondLogits],
          description: `Empty without model.dual_attention. ${GROWTH}`,
        },
        {
          title: 'Second attention: mean entropy',
          kind: 'heat',
          unit: 'suffix:nats',
          width: 12,
          queries: [q.secondEntropy],
          description: `Empty without model.dual_attention. ${COLLAPSE}`,
        },
      ],
    },
  ],
};

/** What the dashboard "Attention" asks, of the queries of one stream at a time. */
import type { Query } from '../board.js';

const byBlock = (metric: string, stream: string, attention: string): Query => ({
  expr: `max by (run, block) (orchestrator_${metric}{run=~"$run", stream="${stream}", attention="${attention}"})`,
  legend: '{{run}} {{block}}',
});

export const attention = {
  largest: {
    expr: 'max by (run, stream) (orchestrator_attention_max_abs_logit{run=~"$run"})',
    legend: '{{run}} {{stream}}',
  },
  smallestEntropy: {
    expr: 'min by (run, stream) (orchestrator_attention_mean_entropy_nats{run=~"$run"})',
    legend: '{{run}} {{stream}}',
  },
  bound: {
    expr: 'max by (run, stream) (orchestrator_attention_logit_bound{run=~"$run"})',
    legend: '{{run}} {{stream}}, bound by QK-norm',
  },
  ofBound: {
    expr: 'max by (run, stream, block) (orchestrator_attention_max_abs_logit{run=~"$run"} / orchestrator_attention_logit_bound{run=~"$run"})',
    legend: '{{run}} {{stream}} {{block}}',
  },
  imageLogits: byBlock('attention_max_abs_logit', 'image', 'attn'),
  textLogits: byBlock('attention_max_abs_logit', 'text', 'attn'),
  imageBound: byBlock('attention_logit_bound', 'image', 'attn'),
  textBound: byBlock('attention_logit_bound', 'text', 'attn'),
  imageEntropy: byBlock('attention_mean_entropy_nats', 'image', 'attn'),
  textEntropy: byBlock('attention_mean_entropy_nats', 'text', 'attn'),
  secondLogits: byBlock('attention_max_abs_logit', 'image', 'attn2'),
  secondEntropy: byBlock('attention_mean_entropy_nats', 'image', 'attn2'),
} as const satisfies Record<string, Query>;

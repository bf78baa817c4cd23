import type { Board } from '../board.js';
import { training as q } from '../queries/training.js';

export const training: Board = {
  uid: 'orchestrator-training',
  title: 'Orchestrator: Training',
  description: 'What a run learns, and how fast. Choose several runs to lay them over each other.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Step',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.step],
          description:
            'Committed steps. If it stands still, look at "Seconds since the last step" on Cluster.',
        },
        {
          title: 'Done',
          kind: 'stat',
          unit: 'percentunit',
          width: 4,
          queries: [q.done],
          description: 'Share of schedule.steps that is committed.',
        },
        {
          title: 'Time left',
          kind: 'stat',
          unit: 's',
          width: 4,
          queries: [q.remaining],
          description:
            'At the pace of the last 5 minutes, without validations. If it grows, steps are getting slower: see Cluster for the phase that does.',
        },
        {
          title: 'Samples per second',
          kind: 'stat',
          unit: 'suffix:img/s',
          width: 4,
          queries: [q.samplesPerSecond],
          description: 'Over the whole run, all workers together. If it drops, see the phases on Cluster.',
        },
        {
          title: 'Share of the matmul peak',
          kind: 'stat',
          unit: 'percentunit',
          width: 4,
          queries: [q.ofPeak],
          description:
            'Model FLOP/s over the peak that was measured at the start. Compare it with `orchestrator profile`; much less means waiting or a small batch.',
        },
        {
          title: 'Refused steps',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.nonFinite],
          thresholds: [{ from: 1, colour: 'red' }],
          description:
            'Steps with a NaN or an infinity. More than 0: run.log names the samples and the first tensor; check the data and the learning rate.',
        },
      ],
    },
    {
      title: 'Loss',
      panels: [
        {
          title: 'Training loss',
          kind: 'line',
          unit: 'short',
          width: 12,
          queries: [q.loss, q.lossMean],
          description:
            'Mean weighted loss of a step, and its mean over 5 minutes. A jump that stays: resume from a checkpoint before it. Rising slowly: lower the learning rate.',
        },
        {
          title: 'Training loss by bin of t',
          kind: 'line',
          unit: 'short',
          width: 12,
          queries: [q.lossByTime],
          description:
            't = 0 is the image, t = 1 noise. Both ends are hard and stay high; one bin that rises alone points at the density of t or the weighting of the loss.',
        },
        {
          title: 'Validation loss',
          kind: 'line',
          unit: 'short',
          width: 12,
          queries: [q.validationMean],
          description:
            'Held-out rows with fixed noise, mean over the bins of t: comparable between runs of one formulation; empty without data.validation_rows. Rising while the training loss falls is overfitting: stop, or use more data.',
        },
        {
          title: 'Validation loss by bin of t',
          kind: 'line',
          unit: 'short',
          width: 12,
          queries: [q.validationByBin],
          description:
            'The same by bin. Bins near t = 0 show details, those near t = 1 composition; look for the bin that stopped falling.',
        },
        {
          title: 'Error of the noise estimate by log-SNR',
          kind: 'line',
          unit: 'short',
          width: 24,
          logarithmic: true,
          queries: [q.validationEpsilonError],
          description:
            'Held-out rows at eight fixed log-SNRs: the one loss that compares runs of different formulations. A run that is worse at every log-SNR learns less; worse at some only, its formulation weights them less.',
        },
      ],
    },
    {
      title: 'Optimization',
      panels: [
        {
          title: 'Gradient norm',
          kind: 'line',
          unit: 'short',
          width: 8,
          logarithmic: true,
          queries: [q.gradientNorm],
          description:
            'Before clipping. Spikes are clipped and harmless alone; if they become frequent, lower the learning rate or lengthen the warm-up.',
        },
        {
          title: 'Gradient norm by block',
          kind: 'heat',
          unit: 'short',
          width: 16,
          queries: [q.gradientNormByBlock],
          description:
            'Their squares add up to that of the global norm. One bright block points at its attention (see Attention); a block that stays dark does not learn: is it frozen?',
        },
        {
          title: 'Learning rate',
          kind: 'line',
          unit: 'short',
          width: 12,
          queries: [q.learningRate],
          description: 'Of the last step. It must follow the schedule of the configuration.',
        },
        {
          title: 'Distance of the EMA',
          kind: 'line',
          unit: 'percentunit',
          width: 12,
          queries: [q.emaDistance],
          description:
            '|EMA - weights| / |weights| at validations; empty without them or without `ema`. Large and growing: ema.decay averages over too many steps for this learning rate.',
        },
      ],
    },
    {
      title: 'Speed',
      panels: [
        {
          title: 'Samples per second over time',
          kind: 'line',
          unit: 'suffix:img/s',
          width: 12,
          queries: [q.samplesPerSecond],
          description: 'Regular dips are validations and checkpoints; others: see the phases on Cluster.',
        },
        {
          title: 'Model FLOP/s and the matmul peak',
          kind: 'line',
          unit: 'flops',
          width: 12,
          logarithmic: true,
          queries: [q.flops, q.peak],
          description:
            'Without credit for recomputation. If it falls though nothing changed, look for a throttled or shared machine.',
        },
        {
          title: 'Time of a validation',
          kind: 'line',
          unit: 's',
          width: 12,
          queries: [q.validationSeconds],
          description:
            'Of the last one; training stands still for it. If it is a large part of the time between two, raise validation.every, or lower data.validation_rows.',
        },
        {
          title: 'Samples since the start',
          kind: 'line',
          unit: 'short',
          width: 6,
          queries: [q.samples],
          description:
            "Samples of the steps that were committed since the run's command was started. It begins at 0 again when the run is resumed; if it rises more slowly than before, see the phases on Cluster.",
        },
        {
          title: 'Epoch',
          kind: 'line',
          unit: 'none',
          width: 6,
          queries: [q.epoch],
          description:
            'Passes over the rows that are trained on, since the first step of the run. With many of them, watch the validation loss.',
        },
      ],
    },
  ],
};

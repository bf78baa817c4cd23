import type { Board } from '../board.js';
import { cluster as q } from '../queries/cluster.js';
import { training } from '../queries/training.js';

export const cluster: Board = {
  uid: 'orchestrator-cluster',
  title: 'Orchestrator: Cluster',
  description: 'Workers, where the time of a step goes, the exchange of gradients, and faults.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Phase',
          kind: 'stat',
          unit: 'none',
          width: 4,
          names: true,
          queries: [training.phase],
          description:
            'The phase of the run. Nothing is shown of a run that has ended, well or not: if it failed, the alert RunDown fires, and the end of run.log says why.',
        },
        {
          title: 'Workers',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.workers],
          description: 'Workers that the run was started with.',
        },
        {
          title: 'Seconds since the last step',
          kind: 'stat',
          unit: 's',
          width: 4,
          queries: [q.sinceStep],
          thresholds: [
            { from: 60, colour: 'orange' },
            { from: 300, colour: 'red' },
          ],
          description:
            'Minutes where steps take seconds: a validation (see its time on Training), or a worker that is waited for, which run.log names.',
        },
        {
          title: 'Generation',
          kind: 'stat',
          unit: 'none',
          width: 3,
          queries: [q.generation],
          description:
            'A number that rises whenever the workers form a new group, at a start, a resume or a restart; journal.jsonl lists all generations.',
        },
        {
          title: 'Restarts',
          kind: 'stat',
          unit: 'none',
          width: 3,
          queries: [q.restarts, q.coordinators],
          thresholds: [{ from: 3, colour: 'orange' }],
          description: 'Generations after the first. Several an hour: take the machine that fails out.',
        },
        {
          title: 'Replayed steps',
          kind: 'stat',
          unit: 'none',
          width: 3,
          queries: [q.replayed],
          description: 'Steps that were computed again. Many: lower checkpoint.every.',
        },
        {
          title: 'Weights differed',
          kind: 'stat',
          unit: 'none',
          width: 3,
          queries: [q.mismatches],
          thresholds: [{ from: 1, colour: 'red' }],
          description:
            'Times that workers had different weights. More than 0: suspect memory or processor of the machine that run.log names.',
        },
      ],
    },
    {
      title: 'Time of a step',
      panels: [
        {
          title: 'Step time by phase: $run',
          kind: 'stack',
          unit: 's',
          width: 24,
          byRun: true,
          queries: [q.data, q.forward, q.backward, q.gpuCompute, q.exchange, q.commit, q.update],
          description:
            'Mean over the workers, in the order in which a step goes; on a GPU, forward and backward are one. Much data: a slow disk; much exchange: a slow network or a straggler; much commit: one worker comes late.',
        },
        {
          title: 'Step time',
          kind: 'line',
          unit: 's',
          width: 8,
          queries: [q.stepSeconds, q.stepSecondsHigh],
          description:
            'From one commit to the next, without a validation. If the two lines part, some steps are much slower: compare the workers below.',
        },
        {
          title: 'Gathering and computing by worker',
          kind: 'line',
          unit: 's',
          width: 8,
          queries: [q.compute],
          description:
            'Seconds per step. All wait for the slowest: on its machine look for other processes, heat, or a slow disk.',
        },
        {
          title: 'Slow steps by worker',
          kind: 'line',
          unit: 'percentunit',
          width: 8,
          queries: [q.slow],
          thresholds: [{ from: 0.5, colour: 'orange' }],
          description:
            'Share of steps in which a worker took 1.5 times as long for a slot as the median. Above 50 % it is a straggler: replace or relieve its machine.',
        },
      ],
    },
    {
      title: 'Exchange of gradients',
      panels: [
        {
          title: 'Exchange by worker',
          kind: 'line',
          unit: 's',
          width: 12,
          queries: [q.exchangeSeconds],
          description:
            'Seconds per step that are not hidden behind the backward pass. Long on all but one worker: that one is slow. Long on all: the network.',
        },
        {
          title: 'Gradients received',
          kind: 'line',
          unit: 'binBps',
          width: 12,
          queries: [q.exchangeBytes],
          description:
            'Bytes per second by worker; 0 where workers share memory. Far below the bandwidth of the network: the exchange waits for a worker.',
        },
      ],
    },
    {
      title: 'Processes',
      panels: [
        {
          title: 'Resident memory',
          kind: 'line',
          unit: 'bytes',
          width: 8,
          queries: [q.resident],
          description:
            'By worker; data that is mapped counts, too. Growing without end: report it with run.log; near the limit of the machine, use more workers.',
        },
        {
          title: 'Memory of the engine',
          kind: 'line',
          unit: 'bytes',
          width: 8,
          queries: [q.native],
          description: 'Weights, optimizer, gradients, activations. Compare it with `orchestrator estimate`.',
        },
        {
          title: 'GPU memory',
          kind: 'line',
          unit: 'bytes',
          width: 8,
          queries: [q.gpuMemory],
          description:
            'Empty without GPUs. Near the limit: raise the level of activation checkpointing, or lower batch.micro.',
        },
        {
          title: 'Event-loop delay',
          kind: 'line',
          unit: 's',
          width: 24,
          logarithmic: true,
          queries: [q.loopWorkers, q.loopCoordinator],
          thresholds: [{ from: 1, colour: 'red' }],
          description:
            'The 99th percentile. Seconds: the process gets no processor time, and heartbeats will be late: look for other processes, or lower `threads`.',
        },
      ],
    },
  ],
};

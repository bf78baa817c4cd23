import type { Board } from '../board.js';
import { storage as q } from '../queries/storage.js';

export const storage: Board = {
  uid: 'orchestrator-storage',
  title: 'Orchestrator: Data and checkpoints',
  description: 'Whether workers wait for data, and whether the run could be resumed.',
  rows: [
    {
      title: 'Now',
      panels: [
        {
          title: 'Last checkpoint',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.checkpointStep],
          description: 'Its step. None long after checkpoint.every steps: see run.log.',
        },
        {
          title: 'Age of the last checkpoint',
          kind: 'stat',
          unit: 's',
          width: 4,
          queries: [q.age],
          description: 'What a failure would cost now. If it is too much, lower checkpoint.every.',
        },
        {
          title: 'Failed checkpoints',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.failed],
          thresholds: [{ from: 1, colour: 'red' }],
          description: 'More than 0: run.log says why; free space, or mend the file system.',
        },
        {
          title: 'Skipped checkpoints',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.skipped],
          thresholds: [{ from: 1, colour: 'orange' }],
          description:
            'Left out because another one was still being written. More and more: raise checkpoint.every, or write to a faster disk.',
        },
        {
          title: 'Checkpoints that still fit',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.freeInCheckpoints],
          description:
            'Free disk over the size of a checkpoint. Less than 3: free space, or lower checkpoint.keep.',
        },
        {
          title: 'Skipped rows',
          kind: 'stat',
          unit: 'none',
          width: 4,
          queries: [q.skippedRows],
          thresholds: [{ from: 1, colour: 'orange' }],
          description:
            'Rows that could not be used. More than 0: `orchestrator dataset verify` tells which files.',
        },
      ],
    },
    {
      title: 'Data',
      panels: [
        {
          title: 'Waiting for data',
          kind: 'line',
          unit: 'percentunit',
          width: 24,
          queries: [q.dataWait],
          thresholds: [{ from: 0.2, colour: 'orange' }],
          description:
            "Share of a worker's time. High in the first epoch alone: the page cache is cold. Later: move the data set to a faster disk, or add memory.",
        },
      ],
    },
    {
      title: 'Checkpoints',
      panels: [
        {
          title: 'Steps since the last checkpoint',
          kind: 'line',
          unit: 'none',
          width: 12,
          queries: [q.stepsSince, q.interval],
          description:
            'A saw that falls at every checkpoint. Above twice checkpoint.every: writing hangs; look at the file system.',
        },
        {
          title: 'Writing and waiting',
          kind: 'line',
          unit: 's',
          width: 12,
          queries: [q.writeSeconds, q.stallSeconds],
          description:
            'Seconds to write the last checkpoint, and that training waited for checkpoints in all. If the second grows fast, checkpoints come faster than the disk writes: raise checkpoint.every.',
        },
        {
          title: 'Size of a checkpoint',
          kind: 'line',
          unit: 'bytes',
          width: 12,
          queries: [q.size],
          description: 'It does not change within a run. Compare it with the free space beside it.',
        },
        {
          title: 'Free disk',
          kind: 'line',
          unit: 'bytes',
          width: 12,
          queries: [q.free],
          description:
            'On the file system of the run folder. Falling steadily: something else fills it; the run itself keeps checkpoint.keep checkpoints.',
        },
      ],
    },
  ],
};

/** `orchestrator launch`: trains on this machine, and on others that ssh reaches. */
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { loadConfigWithSources } from '../../config/load.js';
import { completion } from '../../coordinator/resolve-run.js';
import { OrchestratorError, refuse } from '../../errors.js';
import { HostQuestions } from '../../launch/check-hosts.js';
import { stopWithParent } from '../../launch/children.js';
import { renderDryRun } from '../../launch/dry-run.js';
import { dryRunData } from '../../launch/dry-run-data.js';
import { LAUNCHERS } from '../../launch/launcher.js';
import { preflight } from '../../launch/preflight.js';
import { type LaunchOptions, mostTogether, workersHere, workersOf } from '../../launch/processes.js';
import { travelling } from '../../launch/ssh.js';
import { superviseRun } from '../../launch/supervise.js';
import { native } from '../../native/load.js';
import { forecastRunTime } from '../../planning/run-time.js';
import { onStopSignals, stopEarly } from '../../signals.js';
import { checkFewest, checkWorkers } from '../../step/assignment.js';
import { bytesOfWhole } from '../../text/quantities.js';
import {
  advertisedHost,
  listenAddress,
  memorySize,
  type NodeRange,
  nodeRange,
  portNumber,
  targetsFile,
  wholeNumber,
  workerCount,
} from '../arguments.js';
import { type HostFlags, hostsOf, networkOfHosts, refuseLaunch, refuseUnfit } from '../launch-hosts.js';
import { configArgument, networkOf, patienceOption, seenFrom, workersPerNodeOption } from '../options.js';
import { ignoreOutputErrors, printResult } from '../output.js';
import { Progress } from '../progress.js';

/** Reading fewer bytes of a data set takes no time that needs to be shown. */
const LONG_READING_BYTES = 2 ** 30;

interface LaunchFlags extends HostFlags {
  nodes: NodeRange;
  minWorkers?: number;
  maxRestarts: number;
  patience: number;
  resume: string;
  allowDataChange?: true;
  runDir?: string;
  set: string[];
  memory?: number;
  quiet?: true;
  logFormat: 'text' | 'json';
  dryRun?: true;
  json?: true;
  cache: boolean;
  prometheusTargets?: string;
}

export function register(program: Command): void {
  const command = program
    .command('launch')
    .description(
      'train: start a coordinator on this machine, and its workers here or on other hosts, one process each',
    );
  workersPerNodeOption(
    patienceOption(configArgument(command)).addOption(
      new Option(
        '-n, --nodes <n|min:max>',
        'number of nodes; all of them are this machine; of MIN:MAX, MAX are started, and the run goes on with MIN',
      )
        .argParser(nodeRange)
        .default({ min: null, max: 1 }, '1'),
    ),
  )
    .option(
      '--min-workers <n>',
      'go on when workers die, as long as so many are left (default: those of MIN nodes, or 1)',
      workerCount,
    )
    .option(
      '--max-restarts <n>',
      'how often each process of the run that has died is started again within 10 minutes; 0 = never',
      wholeNumber,
      3,
    )
    .option(
      '--resume <auto|never|path>',
      'checkpoint to resume from; auto = the latest valid one, never = none',
      'auto',
    )
    .option(
      '--allow-data-change',
      'go on with a data set that was corrected or extended since the checkpoint, in a new segment of the sample plan',
    )
    .option('--run-dir <dir>', 'folder of the run (default: runs/NAME)')
    .option(
      '--memory <size>',
      'memory available to the run, such as 24GiB (default: that of this machine and its control group)',
      memorySize,
    )
    .option(
      '--listen <host:port>',
      'let workers of other machines join, over TLS, at this address of this machine; `invite` prints what they need',
      listenAddress,
    )
    .option(
      '--advertise <host>',
      'host under which they reach this machine (default: that of --listen)',
      advertisedHost,
    )
    .option(
      '--hosts <list>',
      'hosts on which workers are started by ssh, such as a,b:2,localhost: names, and behind a colon how many workers',
    )
    .option(
      '--hostfile <file>',
      'the same as a file with a line for each, such as "user@b:22 slots=2 dir=FOLDER data=FOLDER"',
    )
    .option(
      '--remote-dir <dir>',
      'folder of the other hosts in which the command runs (default: the same as here)',
    )
    .option(
      '--port <n>',
      'port of the coordinator, for workers of other hosts; those of each host take N + 1 and following (default: any free ones)',
      portNumber,
    )
    .option('--no-cache', 'compute the identity of the data set again, whatever the cache holds')
    .option(
      '--prometheus-targets <file>',
      "write the address of /metrics into this file, for Prometheus' file-based discovery; runs may share it",
      targetsFile,
    )
    .addOption(
      new Option(
        '--quiet',
        'show only warnings, errors and answers to Ctrl-C, and at the end how the run ended',
      ).conflicts('logFormat'),
    )
    .addOption(
      new Option('--log-format <format>', 'what is printed: lines for people, or the JSON lines of run.log')
        .choices(['text', 'json'])
        .default('text'),
    )
    .option('--dry-run', 'print ranks, slots, memory and commands without starting anything')
    .option('--json', 'with --dry-run: print JSON')
    .action(async (configPath: string, flags: LaunchFlags) => {
      if (flags.json && !flags.dryRun) {
        const hint =
          'A run writes its numbers into metrics.jsonl; `orchestrator status RUN --json` prints its state';
        throw new OrchestratorError('ERR_USAGE', '--json needs --dry-run', hint);
      }
      const given = loadConfigWithSources(configPath, flags.set);
      const { nodes, maxRestarts } = flags;
      const { hosts, perNode } = await hostsOf(flags, given.config);
      const isRemote = hosts.some(({ ssh }) => ssh !== null);
      const { network, unknown } = isRemote
        ? await networkOfHosts(hosts, flags)
        : { network: networkOf(flags.listen, flags.advertise), unknown: null };
      // Workers of other machines hold the whole state, too.
      const isGrpc = network !== null && given.config.exchange === 'auto';
      const overrides = [...flags.set, ...(isGrpc ? ['exchange=grpc'] : [])];
      const loaded = isGrpc ? loadConfigWithSources(configPath, overrides) : given;
      const { config } = loaded;
      const workers = workersOf({ hosts });
      const { minWorkers = nodes.min === null ? 1 : nodes.min * perNode } = flags;
      checkFewest(workers, minWorkers);
      if (network !== null && nodes.max > 1) {
        throw new OrchestratorError(
          'ERR_USAGE',
          '--nodes with --listen: the nodes that `launch` starts are all this machine',
          'Use --nproc-per-node for the workers of this machine; --hosts starts those of others, or they join with what `invite` prints',
        );
      }
      const options: LaunchOptions = {
        hosts,
        workerPort: flags.port === undefined ? 0 : flags.port + 1,
        environment: isRemote ? travelling(process.env) : {},
        instructionSets: null,
        minWorkers,
        maxRestarts,
        patienceSeconds: flags.patience,
        device: config.device,
        configPath,
        runDir: seenFrom(network, flags.runDir ?? join('runs', config.name)),
        resume: flags.resume,
        allowDataChange: flags.allowDataChange === true,
        overrides,
        network,
        prometheusTargets: flags.prometheusTargets ?? null,
        form: flags.quiet ? 'quiet' : flags.logFormat,
      };
      const launcher = isRemote ? LAUNCHERS.ssh : LAUNCHERS.local;
      const { memory = null, dryRun: dry = false } = flags;
      if (dry && unknown !== null) throw unknown;
      if (!dry) onStopSignals(stopEarly);
      checkWorkers(config, workers);
      const { runDir, resume, allowDataChange = false } = options;
      const reading = new Progress('reading the data set', bytesOfWhole);
      const identify = {
        cache: flags.cache ? ('use' as const) : ('renew' as const),
        progress: (done: number, total: number) => {
          if (total >= LONG_READING_BYTES && options.form === 'text') reading.update(done, total);
        },
      };
      // To connect, and to start the program there, takes as long as what is done here meanwhile.
      const questions = isRemote && !dry ? new HostQuestions(hosts, options.environment) : null;
      const found = await preflight(native(), loaded, {
        ...{ workers, runDir, resume, allowDataChange },
        spread: { together: mostTogether({ hosts }), here: workersHere({ hosts }) },
        ...{ memory, dry, identify },
      }).catch((error) => {
        questions?.close();
        throw error;
      });
      // In a launch the coordinator says so, after it has read every byte of the checkpoint.
      const complete = dry ? completion(found.resolved) : null;
      if (complete !== null) {
        refuse(found.problems);
        printResult({ complete }, flags.json, () => `${complete}\n`);
        return;
      }
      if (dry) {
        const { config: effective, step } = found.resolved;
        const here = memory === null && effective.device === 'cpu' && !isRemote;
        const time = here ? await forecastRunTime(native(), effective, found.figures, step) : null;
        printResult(dryRunData(options, launcher, found, time), flags.json, () =>
          renderDryRun(options, launcher, found, time),
        );
        refuse(found.problems);
        return;
      }
      if (found.problems.length > 0) questions?.close();
      refuseLaunch(found.problems, found.warnings);
      const permission =
        questions === null
          ? Promise.resolve({ ...options, ...found })
          : refuseUnfit(questions, found, unknown);
      ignoreOutputErrors();
      stopWithParent();
      // What a reader has not taken by now does not keep the process.
      process.exit(await superviseRun(options, launcher, permission));
    });
}

#!/usr/bin/env node
/**
 * The entry point. It imports nothing statically, because an import would run before the first statement: from
 * there on SIGUSR1 ends the process, like any program that does not handle it, instead of opening Node.js's
 * debugger. Processes of a run replace the listener (`signals.ts`).
 */
const endBySignal = () => {
  process.off('SIGUSR1', endBySignal);
  process.kill(process.pid, 'SIGUSR1');
};
process.on('SIGUSR1', endBySignal);
// nohup's SIGHUP is ignored, though Node.js resets it; `orchestrator` sets the variable.
if (process.env.ORCHESTRATOR_NOHUP === '1') process.on('SIGHUP', () => {});

await import('./run-command.js');

export {};

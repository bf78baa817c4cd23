#!/usr/bin/env node
/**
 * The entry point. It imports nothing statically, because an import would run before the first statement: from
 * there on SIGUSR1 ends the process, like other programs, instead of opening Node.js's debugger. The processes
 * of a run then listen for it (`signals.ts`).
 */
const none = () => {};
// With its last listener the signal also loses Node.js's handler.
process.on('SIGUSR1', none).off('SIGUSR1', none);
// nohup's SIGHUP is ignored, though Node.js resets it; `orchestrator` sets the variable.
if (process.env.ORCHESTRATOR_NOHUP === '1') process.on('SIGHUP', none);

await import('./run-command.js');

export {};

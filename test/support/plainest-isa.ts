/**
 * The instruction set that every processor of this architecture has: ORCHESTRATOR_ISA of tests of another
 * machine.
 */
export const PLAINEST_ISA = process.arch === 'arm64' ? 'neon' : 'generic';

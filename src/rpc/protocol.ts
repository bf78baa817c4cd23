/** More workers do not join a run. */
export const MOST_WORKERS = 4_096;

/**
 * Version of what processes of different machines say to each other: the messages of cluster.proto, and the reports of
 * hosts (host-report.ts). The coordinator refuses workers with another version, and with another build of this program.
 */
export const PROTOCOL = 14;

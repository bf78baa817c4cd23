/** The output streams of processes that outlive their reader. */

/**
 * Ignores write errors of stdout and stderr: a closed terminal or pipe must not cost the run its checkpoint.
 */
export function ignoreOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error');
    stream.on('error', () => {});
  }
}

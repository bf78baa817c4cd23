/** What commands print. */

/** Prints a result as JSON where --json asks for it, otherwise as the page that `render` makes of it. */
export function printResult<T>(result: T, json: true | undefined, render: (result: T) => string): void {
  process.stdout.write(json ? `${JSON.stringify(result, null, 2)}\n` : render(result));
}

/**
 * Ignores write errors of stdout and stderr: a closed terminal or pipe must not cost the run its checkpoint.
 */
export function ignoreOutputErrors(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners('error');
    stream.on('error', () => {});
  }
}

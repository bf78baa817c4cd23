/** Runs one command of the command line, and turns an error into text and an exit code. */
import { EXIT } from '../errors.js';
import { argumentWithHome } from '../files/home.js';
import { printNote } from './output.js';
import { buildProgram } from './program.js';
import { reportError } from './report.js';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.done); // the reader, such as `head`, has closed the pipe
  throw error;
});

const name = process.argv.slice(2).find((argument) => !argument.startsWith('-')) ?? null;
const program = await buildProgram(name);
try {
  await program.parseAsync(process.argv.map(argumentWithHome));
} catch (error) {
  const { text, exitCode } = reportError(error, program.opts<{ debug?: boolean }>().debug === true);
  if (text !== '') printNote(text.trimEnd());
  process.exitCode = exitCode;
}

/** All generated pages and files, by path in the repository. */
import { buildProgram } from '../cli/program.js';
import { cliPage } from './cli-page.js';
import { configPage, configSchemaJson, studyPage, studySchemaJson } from './config-page.js';
import { errorsPage } from './errors-page.js';
import { eventsPage } from './events-page.js';
import { manPage } from './man-page.js';
import { metricsFilePage, metricsSchemaJson } from './metrics-file-page.js';
import { metricsPage } from './metrics-page.js';
import { resumePage } from './resume-page.js';

export async function generatedFiles(): Promise<Map<string, string>> {
  return new Map([
    ['configs/schema.json', configSchemaJson()],
    ['configs/studies/schema.json', studySchemaJson()],
    ['docs/reference/cli.md', cliPage(await buildProgram())],
    ['docs/reference/orchestrator.1', manPage(await buildProgram())],
    ['docs/reference/config.md', configPage()],
    ['docs/reference/errors.md', errorsPage()],
    ['docs/reference/events.md', eventsPage()],
    ['configs/metrics.schema.json', metricsSchemaJson()],
    ['docs/reference/metrics.md', metricsPage()],
    ['docs/reference/metrics-file.md', metricsFilePage()],
    ['docs/reference/resume.md', resumePage()],
    ['docs/reference/study.md', studyPage()],
  ]);
}

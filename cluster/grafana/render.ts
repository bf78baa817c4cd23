/** Dashboards as Grafana's classic JSON (schema v1), which Grafana 10, 11 and 12 provision. */
import * as common from '@grafana/grafana-foundation-sdk/common';
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard';
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap';
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus';
import * as stat from '@grafana/grafana-foundation-sdk/stat';
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries';
import type { Board, Panel } from './board.js';
import { COLUMNS, placePanels, ROW_HEIGHT } from './layout.js';
import { annotations } from './queries/annotations.js';

/**
 * The version that Grafana 10.0 writes; every later one brings it up to its own. A higher one than its own is
 * an error for the server of Grafana 12.
 */
const SCHEMA_VERSION = 38;

/** The data source that the reader chose. */
const SOURCE = { type: 'prometheus', uid: '$datasource' };

type PanelBuilder = timeseries.PanelBuilder | heatmap.PanelBuilder | stat.PanelBuilder;

export function renderBoard(board: Board): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(board.title)
    .uid(board.uid)
    .description(board.description)
    .tags(['orchestrator'])
    .timezone('browser')
    .time({ from: 'now-6h', to: 'now' })
    .refresh('30s')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .editable()
    .withVariable(
      new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'),
    )
    .withVariable(
      new dashboard.QueryVariableBuilder('run')
        .label('Run')
        .datasource(SOURCE)
        .query({ query: 'label_values(orchestrator_run_info, run)', refId: 'run' })
        .multi(true)
        .includeAll(true)
        .allValue('.+')
        .current({ text: 'All', value: '$__all' })
        .refresh(dashboard.VariableRefresh.OnTimeRangeChanged)
        .sort(dashboard.VariableSort.AlphabeticalDesc),
    )
    .link(
      new dashboard.DashboardLinkBuilder('Other dashboards of runs')
        .type(dashboard.DashboardLinkType.Dashboards)
        .tags(['orchestrator'])
        .asDropdown(true)
        .keepTime(true)
        .includeVars(true),
    );
  for (const { name, colour, expr, legend, valueIsTime } of annotations) {
    const annotation = new dashboard.AnnotationQueryBuilder()
      .name(name)
      .datasource(SOURCE)
      .enable(true)
      .hide(false)
      .iconColor(colour)
      .expr(expr)
      .titleFormat(legend);
    builder.annotation(valueIsTime ? annotation.useValueForTime(true) : annotation);
  }
  const { rows, panels } = placePanels(board);
  let id = 1;
  for (const { row, y } of rows) {
    const place = { x: 0, y, w: COLUMNS, h: ROW_HEIGHT };
    builder.withRow(new dashboard.RowBuilder(row.title).id(id++).gridPos(place));
    for (const { panel, x, y: top, w, h } of panels.filter((placed) => placed.row === row)) {
      builder.withPanel(renderPanel(panel).id(id++).gridPos({ x, y: top, w, h }));
    }
  }
  return withDefaultPlaces({ ...builder.build(), schemaVersion: SCHEMA_VERSION });
}

/** The SDK hides the switches of annotations and the links in a menu; by default, Grafana shows them above. */
function withDefaultPlaces(board: dashboard.Dashboard): dashboard.Dashboard {
  for (const shown of [...(board.annotations.list ?? []), ...(board.links ?? [])]) delete shown.placement;
  return board;
}

function renderPanel(panel: Panel): PanelBuilder {
  const builder = panelOf(panel)
    .title(panel.title)
    .description(panel.description)
    .datasource(SOURCE)
    .unit(panel.unit);
  for (const [i, { expr, legend }] of panel.queries.entries()) {
    const query = new prometheus.DataqueryBuilder()
      .refId(String.fromCharCode(65 + i))
      .datasource(SOURCE)
      .expr(expr)
      .legendFormat(legend);
    builder.withTarget(panel.kind === 'stat' ? query.instant() : query.range());
  }
  const { thresholds = [] } = panel;
  builder.thresholds(
    new dashboard.ThresholdsConfigBuilder()
      .mode(dashboard.ThresholdsMode.Absolute)
      .steps([
        { value: null, color: panel.kind === 'stat' ? 'blue' : 'transparent' },
        ...thresholds.map(({ from, colour }) => ({ value: from, color: colour })),
      ]),
  );
  return builder;
}

function panelOf(panel: Panel): PanelBuilder {
  switch (panel.kind) {
    case 'stat':
      return new stat.PanelBuilder()
        .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
        .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
        .graphMode(common.BigValueGraphMode.None)
        .textMode(panel.names ? common.BigValueTextMode.Name : common.BigValueTextMode.ValueAndName);
    case 'heat':
      // Each series is a row, in the order of the answer; colours show values.
      return new heatmap.PanelBuilder()
        .calculate(false)
        .rowsFrame(new heatmap.RowsHeatmapOptionsBuilder().layout(common.HeatmapCellLayout.Unknown))
        .cellValues(new heatmap.CellValuesBuilder().unit(panel.unit))
        .color(
          new heatmap.HeatmapColorOptionsBuilder()
            .mode(heatmap.HeatmapColorMode.Scheme)
            .scheme('Viridis')
            .steps(64),
        )
        .cellGap(0)
        .showLegend();
    default:
      return lines(panel);
  }
}

function lines(panel: Panel): timeseries.PanelBuilder {
  const stacked = panel.kind === 'stack';
  const builder = new timeseries.PanelBuilder()
    .lineWidth(1)
    .fillOpacity(stacked ? 60 : 0)
    .showPoints(common.VisibilityMode.Auto)
    .spanNulls(false)
    .legend(
      new common.VizLegendOptionsBuilder()
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(
      new common.VizTooltipOptionsBuilder()
        .mode(common.TooltipDisplayMode.Multi)
        .sort(common.SortOrder.Descending),
    );
  if (stacked) builder.stacking(new common.StackingConfigBuilder().mode(common.StackingMode.Normal));
  if (panel.byRun) builder.repeat('run').repeatDirection('h').maxPerRow(2);
  if (panel.logarithmic) {
    builder.scaleDistribution(
      new common.ScaleDistributionConfigBuilder().type(common.ScaleDistribution.Log).log(10),
    );
  }
  if (panel.thresholds !== undefined) {
    builder.thresholdsStyle(
      new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed),
    );
  }
  return builder;
}

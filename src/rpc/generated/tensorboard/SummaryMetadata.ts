// Original file: proto/tensorboard.proto


export interface _tensorboard_SummaryMetadata_PluginData {
  /**
   * which of TensorBoard's tabs shows it
   */
  'pluginName'?: (string);
}

export interface _tensorboard_SummaryMetadata_PluginData__Output {
  /**
   * which of TensorBoard's tabs shows it
   */
  'pluginName': (string);
}

export interface SummaryMetadata {
  'pluginData'?: (_tensorboard_SummaryMetadata_PluginData | null);
}

export interface SummaryMetadata__Output {
  'pluginData': (_tensorboard_SummaryMetadata_PluginData__Output | null);
}

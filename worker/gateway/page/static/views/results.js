import { BackfillResult } from "./backfill_result.js";
import { PredictionResult } from "./prediction_result.js";
import { TrainingResult } from "./training_result.js";

/**
 * What is drawn of a command beside its JSON, by its type: a component that is given
 * `{app, view, message, missing, events}` (`view` of `GET /v1/commands/{id}`, `message` as it was sent,
 * undefined before it is loaded or where `missing` tells why there is none, `events` so far) and returns
 * a `Card`, or null where there is nothing to draw yet.
 *
 * @type {Record<string, Function>}
 */
export const RESULT_VIEWS = {
  backfill: BackfillResult,
  predict: PredictionResult,
  train: TrainingResult,
  watch_training: TrainingResult,
};

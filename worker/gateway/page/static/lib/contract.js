/**
 * What the page knows of the contract: types, states, and what to do about each error.
 * A test compares it with the code.
 */

export const COMMAND_TYPES = [
  "attach",
  "backfill",
  "cancel",
  "create_model",
  "delete_model",
  "delete_training_iteration",
  "detach",
  "get_model",
  "get_training_data",
  "get_weights_download_link",
  "list_attachments",
  "list_models",
  "predict",
  "resolve",
  "train",
  "update_attachment",
  "update_model",
  "watch_training",
];

/** States of events, as lists have them. */
export const EVENT_STATES = [
  "accepted",
  "started",
  "progressed",
  "retrying",
  "in_doubt",
  "resolved",
  "succeeded",
  "failed",
  "cancelled",
  "rejected",
];
export const ENDS = ["succeeded", "failed", "cancelled", "rejected"];
export const OPEN_STATES = EVENT_STATES.filter((state) => !ENDS.includes(state));
/** Of what failed so nobody knows whether it was done: sent again it may be done twice. */
export const PERHAPS_DONE = ["outcome_unknown", "data_loss"];

/** What people do that is recorded. */
export const ACTS = [
  "command.cancel",
  "command.resolve",
  "command.replay",
  "commands.cancel",
  "commands.replay",
  "dead_letter.replay",
  "dead_letter.purge",
  "dead_letters.replay",
  "dead_letters.purge",
  "holds.release",
  "lane.resume",
  "backfill.pause",
  "backfill.resume",
  "backfill.cancel",
  "backfill.retry_failed",
  "sink.pause",
  "sink.resume",
  "sink.recover",
  "delivery.replay",
  "token.create",
  "token.revoke",
  "ledger.accept_loss",
];

/** Whether a command in this state can still be cancelled. @param {string} state */
export function isOpen(state) {
  return !ENDS.includes(state);
}

/**
 * What each code of an error means, what to do, and the section of docs/ that tells more.
 * @type {Record<string, {means: string, act: string, more: string}>}
 */
export const ERRORS = {
  not_json: {
    means: "The message is not JSON in UTF-8, names a key twice, holds NaN or nests too deep.",
    act: "Mend the program that sent it; it sends what no JSON library writes. Then send it again.",
    more: "contract.md, A command",
  },
  too_large: {
    means: "The message is larger than 1 MiB.",
    act: "Put its data into a file or behind a URL that workers may read, and name that in dataref.",
    more: "contract.md, Large data and results",
  },
  invalid_command: {
    means: "The message is not a command: a field is missing, unknown or wrong.",
    act: "Mend each field that the problems name, and send it again.",
    more: "contract.md, Commands",
  },
  idempotency_conflict: {
    means: "The id was used before with another type or other data.",
    act: "Give this command an id of its own. If it was meant to be the same one, send exactly the same data.",
    more: "contract.md, Sending again",
  },
  invalid_arguments: {
    means: "The API finds the arguments invalid (400, 422).",
    act: "Read what the API says, change the data, and send it again from here.",
    more: "contract.md, Commands",
  },
  not_authenticated: {
    means: "The API does not know the credentials, or not in this region (401); the worker waits.",
    act: "Look at the worker's key: is its public half registered, is ENCORD_DOMAIN the right region, is its clock right? It goes on by itself once the API takes the key.",
    more: "operations.md, Holds",
  },
  not_authorised: {
    means: "The credentials do not allow this (403).",
    act: "Give the key's user access to the project or model at Encord, then send it again.",
    more: "operations.md, Dead letters",
  },
  not_found: {
    means: "The API does not know what the command names (404).",
    act: "Look whether the ids in its data exist at Encord, in this region. Correct them and send it again.",
    more: "operations.md, Dead letters",
  },
  not_allowed: {
    means: "The API does not allow the method (405).",
    act: "The API may have changed: look whether there is a newer version of trainmaster.",
    more: "operations.md, Upgrade",
  },
  already_exists: {
    means: "What was to be created exists (409).",
    act: "Use what exists, or change the name in the data and send it again.",
    more: "operations.md, Dead letters",
  },
  payload_too_large: {
    means: "The request is larger than the API takes (413).",
    act: "Send less at a time: a smaller picture, or fewer items.",
    more: "contract.md, Commands",
  },
  unexpected_status: {
    means: "An undocumented status, such as a redirect; a change may have been made all the same.",
    act: "Look at Encord whether the change was made, and whether ENCORD_DOMAIN is right. Send it again only if it was not.",
    more: "operations.md, Dead letters",
  },
  rate_limited: {
    means: "The API asks for fewer requests (429); every worker waits as long as it says.",
    act: "Wait: it is tried again by itself. If it is given up, send it again, and lower the rate of the workers.",
    more: "operations.md, Holds",
  },
  server_error: {
    means: "The API failed (408, 5xx).",
    act: "Wait: it is tried again by itself. If it was given up, send it again once the API is well.",
    more: "operations.md, Dead letters",
  },
  not_connected: {
    means: "No connection to the API: nothing was sent.",
    act: "Look at the network, the proxy and ENCORD_DOMAIN of the workers; trainmaster doctor tells. Then send it again.",
    more: "operations.md, Nothing moves",
  },
  connection_lost: {
    means: "The connection failed after the request was sent: a timeout, a reset, a cut answer.",
    act: "Wait: it is tried again by itself. If it was given up, send it again.",
    more: "operations.md, Dead letters",
  },
  bad_response: {
    means: "The API reported success with an answer that makes no sense or is another's.",
    act: "Look for a proxy between the workers and the API that answers in its place. Then send it again.",
    more: "operations.md, Dead letters",
  },
  invalid_input: {
    means: "The file or reference that the command names can't be used.",
    act: "Look whether the file is there, below the workers' data roots, and of a kind that is taken. Mend it, then send it again.",
    more: "contract.md, Large data and results",
  },
  resource_exhausted: {
    means: "The worker's machine is out of open files, threads, memory or room on a disk.",
    act: "Give the machine more, or the worker fewer slots. What was given up is sent again from here.",
    more: "operations.md, Scale",
  },
  data_unavailable: {
    means: "What the command names by `dataref`, or an item by a URL, can't be read at the moment.",
    act: "Look whether its store answers and lets the workers in. Then send it again.",
    more: "contract.md, Large data and results",
  },
  invalid_item: {
    means: "A row of a backfill's source is no item; the message says what is wrong with it.",
    act: "Mend the row, or leave it out, and start a backfill with what failed.",
    more: "backfills.md",
  },
  data_loss: {
    means: "Redis lost a part of the accepted command, so it can't be run; it may have been started.",
    act: "Look at Encord whether it was done. Send it again only if it was not. Then find out what deletes keys in Redis.",
    more: "operations.md, Keys were deleted",
  },
  training_failed: {
    means: "The API reports that the training failed; it gives no reason.",
    act: "Look at the training at Encord, and whether its labels and settings fit the model. Change the data and send it again.",
    more: "operations.md, Trainings that wait",
  },
  training_timeout: {
    means: "The wait for the training is over; the training may go on at the API.",
    act: "Send watch_training with its uuid to go on waiting, with a longer timeout_seconds.",
    more: "operations.md, Trainings that wait",
  },
  deadline_exceeded: {
    means: "The command's deadline passed before it was done.",
    act: "If it is still wanted send it again: a deadline that has passed is dropped.",
    more: "operations.md, Dead letters",
  },
  outcome_unknown: {
    means: "A change may have happened and the API can't tell; nothing is sent again.",
    act: "Look at Encord first. If nothing was created send it again; if it was, delete the dead letter, and for a training send watch_training with its uuid.",
    more: "operations.md, In doubt",
  },
  poison: {
    means: "The command was claimed again and again without an end: it seems to kill its worker.",
    act: "Look into the workers' logs around its attempts: out of memory, a crash? Mend that before it is sent again.",
    more: "operations.md, Dead letters",
  },
  internal_error: {
    means: "A defect of trainmaster; the worker's log has the details.",
    act: "Look into the worker's log, report it, and send it again after an update.",
    more: "operations.md, Upgrade",
  },
  invalid_setting: {
    means: "A setting of the worker is wrong or missing.",
    act: "Mend the setting that the message names and restart the worker; trainmaster doctor checks it.",
    more: "settings.md",
  },
};

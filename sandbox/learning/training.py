"""Trains one model in its own process: `python -m sandbox.learning.training JOB.json`.

Writes into the job's `out_dir`, each file whole or not at all:

- `progress.json` after every epoch: the mean loss by epoch so far, `{"1": 0.93, "2": 0.71}`
- `weights.safetensors` at the end

Exits with 0 when the weights are there, with 1 and one line on stderr when they are not.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import numpy as np
import optax
from pydantic import ValidationError

from sandbox.learning import nets
from sandbox.learning.batches import Batches, load_frames
from sandbox.learning.errors import LearningError, TrainingJobError
from sandbox.learning.job import PROGRESS_FILE, WEIGHTS_FILE, TrainingJob, write_whole
from sandbox.learning.losses import loss
from sandbox.learning.nets import Net
from sandbox.learning.weights import load_weights, save_weights
from schemas.enums import ModelType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.learning.batches import Batch
    from sandbox.learning.nets import Params

# One thread: the same sums in the same order every time, and the other cores stay free.
_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

# Of the learning rate. A detector hears from hundreds of cells of a frame at each step and takes
# greater steps than a classifier, which hears of one class.
_PEAK_RATE = 8e-3
_CLASSIFIER_PEAK_RATE = 3e-3
_WARM_SHARE = 0.5
_WARM_UP_SHARE = 0.1
_WEIGHT_DECAY = 1e-3
_LARGEST_GRADIENT = 5.0


def train(job: TrainingJob) -> Path:
    """Trains and returns the path of the weights.

    Raises:
        TrainingJobError: the samples or the warm start can't be used.
        UnreadableMediaError: a sample's file can't be read.
        WeightsError: the warm start holds no weights of ours.
    """
    out_dir = Path(job.out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    net = Net(job.architecture, len(job.features))
    params = _start(job, net)
    frames = load_frames(job.samples, job.features, net)
    batches = Batches(frames, net, job.batch_size, np.random.default_rng(job.seed))
    optimizer = _optimizer(_peak_rate(job), len(batches) * job.epochs)
    state = optimizer.init(params)
    losses: dict[str, float] = {}
    for epoch in range(1, job.epochs + 1):
        batch_losses = []
        for batch in batches.epoch():
            params, state, batch_loss = _step(params, state, batch, net=net, optimizer=optimizer)
            batch_losses.append(batch_loss)
        losses[str(epoch)] = round(float(np.mean(batch_losses)), 6)
        write_whole(out_dir / PROGRESS_FILE, json.dumps(losses).encode())
    weights = out_dir / WEIGHTS_FILE
    save_weights(weights, params, net, job.features)
    return weights


def _start(job: TrainingJob, net: Net) -> Params:
    if job.warm_start is None:
        return nets.init(net, job.seed)
    params, earlier, features = load_weights(Path(job.warm_start))
    if earlier != net or features != tuple(job.features):
        raise TrainingJobError(
            f"the earlier weights are of a {earlier.architecture} for {', '.join(features)}"
        )
    return params


def _peak_rate(job: TrainingJob) -> float:
    is_classifier = nets.model_type(job.architecture) is ModelType.CLASSIFICATION
    peak = _CLASSIFIER_PEAK_RATE if is_classifier else _PEAK_RATE
    return peak * _WARM_SHARE if job.warm_start else peak


def _optimizer(peak: float, steps: int) -> optax.GradientTransformation:
    rate = optax.warmup_cosine_decay_schedule(
        init_value=peak / 10,
        peak_value=peak,
        warmup_steps=max(1, round(steps * _WARM_UP_SHARE)),
        decay_steps=max(2, steps),
        end_value=peak / 100,
    )
    return optax.chain(
        optax.clip_by_global_norm(_LARGEST_GRADIENT),
        # One vector in place of a hundred arrays: seconds less to compile.
        optax.flatten(optax.adamw(rate, weight_decay=_WEIGHT_DECAY)),
    )


@partial(jax.jit, static_argnames=("net", "optimizer"), donate_argnames=("params", "state"))
def _step(
    params: Params,
    state: optax.OptState,
    batch: Batch,
    *,
    net: Net,
    optimizer: optax.GradientTransformation,
) -> tuple[Params, optax.OptState, jax.Array]:
    value, gradients = jax.value_and_grad(loss)(params, net, batch)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, value


def main(arguments: Sequence[str]) -> int:
    """Trains what a job file says; returns the exit code."""
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()
    if len(arguments) != 1:
        print("usage: python -m sandbox.learning.training JOB.json", file=sys.stderr)  # noqa: T201
        return 1
    try:
        job = TrainingJob.model_validate_json(Path(arguments[0]).read_bytes())
        # JAX reads it itself where it is said: whoever runs many sandboxes may share one.
        if job.cache_dir is not None and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", job.cache_dir)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
        train(job)
    except (LearningError, ValidationError, OSError) as error:
        print(f"training failed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

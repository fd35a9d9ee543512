"""Weights as files: safetensors, with what they are weights of in the header."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sandbox.learning import nets
from sandbox.learning.errors import WeightsError
from sandbox.learning.job import write_whole
from sandbox.learning.nets import Net
from schemas.enums import ModelArchitecture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sandbox.learning.nets import Params


def save_weights(file: Path, params: Params, net: Net, features: Sequence[str]) -> None:
    """Writes the file whole or not at all."""
    metadata = {
        "format": "trainmaster-sandbox/1",
        "architecture": net.architecture.value,
        "features": json.dumps(list(features)),
        "input_side": str(net.side),
    }
    tensors = {name: np.asarray(value) for name, value in params.items()}
    write_whole(file, save(tensors, metadata))


def load_weights(file: Path) -> tuple[Params, Net, tuple[str, ...]]:
    """Returns the weights, what net they are for, and its features in order.

    Raises:
        WeightsError: the file can't be read or holds other weights than it says.
    """
    try:
        with safe_open(file, "np") as opened:
            metadata = opened.metadata() or {}
            params: Params = {name: jnp.asarray(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118 - not a mapping
        features = tuple(json.loads(metadata["features"]))
        architecture = ModelArchitecture(metadata["architecture"])
        net = Net(architecture, len(features), int(metadata["input_side"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(f"{file.name} holds no weights of ours: {error}") from error
    wanted = {name: value.shape for name, value in nets.init(net, 0).items()}
    if wanted != {name: value.shape for name, value in params.items()}:
        raise WeightsError(f"{file.name} holds no weights of a {architecture}")
    return params, net, features

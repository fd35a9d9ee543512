"""The networks: small convolutional nets in the spirit of the architectures they are named after.

- resnet and vgg: a backbone, its features averaged over the frame, one output per model feature.
- fasterRcnn: a residual backbone with a pyramid down to every 4th pixel; every cell of it tells
  how sure it is of each feature and where the edges of the thing's box are.
- maskRcnn: the same, and a second stage that looks into a box and tells the thing from the rest.

Weights are a flat mapping of names to arrays. Layers have standardised weights in place of batch
normalisation: half the training time on a CPU, and nothing that depends on the batch's size.
Source: Brock et al., "Characterizing signal propagation to close the performance gap in
unnormalized ResNets", 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from schemas.enums import ModelArchitecture, ModelType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

Weight: TypeAlias = "jax.Array | NDArray[np.float32]"
Params: TypeAlias = "dict[str, Weight]"

CELL_PIXELS = 4
"""The step between the cells that a detector looks from, in pixels of its input."""

MASK_SIDE = 28
"""The side of the grid inside a box in which a mask is told."""

_CROP_SIDE = 14
_PYRAMID_WIDTH = 48
_MASK_WIDTH = 32

# What standardised weights need to keep a signal's variance through a relu.
_RELU_GAIN = float(np.sqrt(2 / (1 - 1 / np.pi)))
_BRANCH_START = 0.3

# So sure is an untrained detector of a feature at any cell: most cells show nothing.
_PRIOR = 0.01


@dataclass(frozen=True, slots=True)
class Net:
    """What defines a network's shape; nets that are equal share compiled code."""

    architecture: ModelArchitecture
    features: int
    side: int = 96
    """The input is a square of so many pixels; a multiple of 16."""


class _Backbone(NamedTuple):
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    residual: bool = True


_STEM_WIDTH = 16
_BACKBONES: Mapping[ModelArchitecture, _Backbone] = {
    ModelArchitecture.RESNET_18: _Backbone((1, 1, 1), (32, 48, 64)),
    ModelArchitecture.RESNET_34: _Backbone((1, 2, 1), (32, 48, 64)),
    ModelArchitecture.RESNET_50: _Backbone((1, 2, 2), (32, 64, 96)),
    ModelArchitecture.RESNET_101: _Backbone((2, 2, 2), (32, 64, 96)),
    ModelArchitecture.RESNET_152: _Backbone((2, 3, 2), (32, 64, 96)),
    ModelArchitecture.VGG_16: _Backbone((1, 1, 1), (32, 48, 64), residual=False),
    ModelArchitecture.VGG_19: _Backbone((1, 2, 2), (32, 48, 64), residual=False),
    ModelArchitecture.FASTER_RCNN: _Backbone((1, 1, 1), (32, 48, 64)),
    ModelArchitecture.MASK_RCNN: _Backbone((1, 1, 1), (32, 48, 64)),
}


class Finding(NamedTuple):
    """What a detector says of every cell of a batch; boxes are x0 y0 x1 y1, 0 to 1 of the input."""

    logits: jax.Array
    """(batch, cells, features)"""
    boxes: jax.Array
    """(batch, cells, 4)"""
    fine: jax.Array
    coarse: jax.Array


def model_type(architecture: ModelArchitecture) -> ModelType:
    """Returns what a model of this architecture does."""
    match architecture:
        case ModelArchitecture.FASTER_RCNN:
            return ModelType.OBJECT_DETECTION
        case ModelArchitecture.MASK_RCNN:
            return ModelType.SEGMENTATION
        case _:
            return ModelType.CLASSIFICATION


def init(net: Net, seed: int) -> Params:
    """Returns untrained weights, the same ones for the same seed."""
    layers = _Layers({}, np.random.default_rng(seed))

    def whole(pictures: jax.Array, boxes: jax.Array) -> None:
        if model_type(net.architecture) is ModelType.CLASSIFICATION:
            _classify(layers, net, pictures)
        else:
            finding = _find(layers, net, pictures)
            if model_type(net.architecture) is ModelType.SEGMENTATION:
                _mask(layers, finding, boxes)

    # Only traced: the layers make their weights on the way, nothing is computed.
    jax.eval_shape(whole, jnp.zeros((1, net.side, net.side, 3)), jnp.zeros((1, 1, 4)))
    return layers.params


def classify(params: Params, net: Net, pictures: jax.Array) -> jax.Array:
    """Returns the logits of the features, (batch, features); pictures are RGB, 0 to 255."""
    return _classify(_Layers(params), net, pictures)


def find(params: Params, net: Net, pictures: jax.Array) -> Finding:
    """Returns what every cell says; pictures are RGB, 0 to 255."""
    return _find(_Layers(params), net, pictures)


def mask(params: Params, finding: Finding, boxes: jax.Array) -> jax.Array:
    """Returns the logits of the mask in each box, (batch, boxes, MASK_SIDE, MASK_SIDE)."""
    return _mask(_Layers(params), finding, boxes)


def cell_centres(net: Net) -> NDArray[np.float32]:
    """Returns where the cells look from, (cells, 2), x y, 0 to 1 of the input."""
    count = net.side // CELL_PIXELS
    steps = (np.arange(count, dtype=np.float32) + 0.5) / count
    x, y = np.meshgrid(steps, steps)
    return np.stack([x.ravel(), y.ravel()], axis=1)


class _Layers:
    """Looks weights up by name, or makes them where a generator is given."""

    def __init__(self, params: Params, rng: np.random.Generator | None = None) -> None:
        self.params = params
        self._rng = rng

    def conv(
        self, name: str, x: jax.Array, width: int, *, side: int = 3, stride: int = 1
    ) -> jax.Array:
        shape = (side, side, x.shape[-1], width)
        kernel = jnp.asarray(self._weight(f"{name}/kernel", shape))
        mean = kernel.mean((0, 1, 2))
        spread = kernel.var((0, 1, 2)) * np.prod(shape[:3])
        gain = self._constant(f"{name}/gain", (width,), 1.0)
        kernel = (kernel - mean) * (jax.lax.rsqrt(spread + 1e-6) * gain)
        y = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return y + self._constant(f"{name}/bias", (width,), 0.0)

    def output(self, name: str, x: jax.Array, width: int, bias: float = 0.0) -> jax.Array:
        kernel = self._weight(f"{name}/kernel", (x.shape[-1], width), scale=0.1)
        return x @ kernel + self._constant(f"{name}/bias", (width,), bias)

    def block(self, name: str, x: jax.Array, *, residual: bool) -> jax.Array:
        y = _relu(self.conv(f"{name}/0", x, x.shape[-1]))
        if not residual:
            return y
        y = self.conv(f"{name}/1", y, x.shape[-1])
        return x + y * self._constant(f"{name}/share", (), _BRANCH_START)

    def _weight(self, name: str, shape: tuple[int, ...], scale: float = 1.0) -> Weight:
        if self._rng is not None:
            values = self._rng.normal(0.0, scale / np.sqrt(np.prod(shape[:-1])), shape)
            self.params[name] = values.astype(np.float32)
        return self.params[name]

    def _constant(self, name: str, shape: tuple[int, ...], value: float) -> Weight:
        if self._rng is not None:
            self.params[name] = np.full(shape, value, np.float32)
        return self.params[name]


def _relu(x: jax.Array) -> jax.Array:
    return jax.nn.relu(x) * _RELU_GAIN


def _stages(layers: _Layers, net: Net, pictures: jax.Array) -> list[jax.Array]:
    """Returns the features of every 2nd, 4th, 8th and 16th pixel."""
    backbone = _BACKBONES[net.architecture]
    # Every picture by itself: small nets learn shapes sooner than colours' and light's ranges.
    x = pictures - pictures.mean((1, 2), keepdims=True)
    x = x / (x.std((1, 2, 3), keepdims=True) + 4.0)
    x = _relu(layers.conv("stem", x, _STEM_WIDTH, stride=2))
    stages = [x]
    for stage, (blocks, width) in enumerate(zip(backbone.blocks, backbone.widths, strict=True)):
        x = _relu(layers.conv(f"stage{stage}/down", x, width, stride=2))
        for number in range(blocks):
            x = layers.block(f"stage{stage}/block{number}", x, residual=backbone.residual)
        stages.append(x)
    return stages


def _classify(layers: _Layers, net: Net, pictures: jax.Array) -> jax.Array:
    x = _stages(layers, net, pictures)[-1]
    return layers.output("head", jax.nn.relu(x).mean((1, 2)), net.features)


def _find(layers: _Layers, net: Net, pictures: jax.Array) -> Finding:
    fine, *stages = _stages(layers, net, pictures)
    x = layers.conv("pyramid2", stages[2], _PYRAMID_WIDTH, side=1)
    for level in (1, 0):
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        x = _relu(x + layers.conv(f"pyramid{level}", stages[level], _PYRAMID_WIDTH, side=1))
    x = _relu(layers.conv("neck", x, _PYRAMID_WIDTH))
    batch, cells = x.shape[0], x.shape[1] * x.shape[2]
    flat = x.reshape(batch, cells, _PYRAMID_WIDTH)
    logits = layers.output("feature", flat, net.features, bias=float(np.log(_PRIOR)))
    # The edges' distances from the cell; an untrained net says 3 cells each.
    reach = jnp.exp(jnp.clip(layers.output("edges", flat, 4), -4, 4)) * 3 * CELL_PIXELS / net.side
    centres = jnp.asarray(cell_centres(net))
    boxes = jnp.concatenate([centres - reach[..., :2], centres + reach[..., 2:]], axis=-1)
    return Finding(logits, boxes, fine, x)


def _mask(layers: _Layers, finding: Finding, boxes: jax.Array) -> jax.Array:
    batch, count, _ = boxes.shape
    maps = (_crops(finding.fine, boxes), _crops(finding.coarse, boxes))
    x = jnp.concatenate(maps, axis=-1).reshape(batch * count, _CROP_SIDE, _CROP_SIDE, -1)
    x = _relu(layers.conv("mask0", x, _MASK_WIDTH))
    x = _relu(layers.conv("mask1", x, _MASK_WIDTH))
    quarters = layers.output("mask", x, 4)
    # Each crop cell tells 2 x 2 cells of the mask.
    grid = quarters.reshape(batch, count, _CROP_SIDE, _CROP_SIDE, 2, 2)
    return grid.transpose(0, 1, 2, 4, 3, 5).reshape(batch, count, MASK_SIDE, MASK_SIDE)


def _crops(features: jax.Array, boxes: jax.Array) -> jax.Array:
    """Returns the features inside each box on a grid, (batch, boxes, side, side, width).

    Bilinear, as RoIAlign, but as two matrix products: a gather's gradient is slow on a CPU.
    """
    steps = (jnp.arange(_CROP_SIDE) + 0.5) / _CROP_SIDE

    def weights(low: jax.Array, high: jax.Array, size: int) -> jax.Array:
        at = (low[..., None] + steps * (high - low)[..., None]) * size - 0.5
        at = jnp.clip(at, 0, size - 1)
        return jnp.maximum(1 - jnp.abs(at[..., None] - jnp.arange(size)), 0)

    _, height, width, _ = features.shape
    across = weights(boxes[..., 0], boxes[..., 2], width)
    down = weights(boxes[..., 1], boxes[..., 3], height)
    return jnp.einsum("bnih,bhwc,bnjw->bnijc", down, features, across, optimize="optimal")

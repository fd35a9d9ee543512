"""What a training makes small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import optax

from sandbox.learning import nets
from schemas.enums import ModelType

if TYPE_CHECKING:
    from sandbox.learning.batches import Batch
    from sandbox.learning.nets import Finding, Net, Params

# A cell answers for a thing whose centre is no farther than so many cells, so that several
# neighbours find it and suppression has something to choose from.
_REACH_CELLS = 1.5
_LEAST_REACH_CELLS = 0.51

_FOCUS = 0.0
_EDGES_WEIGHT = 1.5


def loss(params: Params, net: Net, batch: Batch) -> jax.Array:
    """Returns the mean loss of a batch."""
    pictures = jnp.asarray(batch.pictures, jnp.float32)
    match nets.model_type(net.architecture):
        case ModelType.CLASSIFICATION:
            logits = nets.classify(params, net, pictures)
            return optax.softmax_cross_entropy(logits, batch.classes).mean()
        case ModelType.OBJECT_DETECTION:
            return _finding_loss(nets.find(params, net, pictures), net, batch)
        case ModelType.SEGMENTATION:
            finding = nets.find(params, net, pictures)
            return _finding_loss(finding, net, batch) + _mask_loss(params, finding, batch)


def _finding_loss(finding: Finding, net: Net, batch: Batch) -> jax.Array:
    owner, owned = jax.vmap(_owners, in_axes=(None, 0, 0, None))(
        jnp.asarray(nets.cell_centres(net)),
        jnp.asarray(batch.boxes),
        jnp.asarray(batch.features),
        nets.CELL_PIXELS / net.side,
    )
    features = jnp.where(owned, jnp.take_along_axis(batch.features, owner, axis=1), -1)
    boxes = jnp.take_along_axis(batch.boxes, owner[..., None], axis=1)
    wanted = jax.nn.one_hot(features, net.features)
    count = jnp.maximum(owned.sum(), 1)
    sure = optax.sigmoid_focal_loss(finding.logits, wanted, gamma=_FOCUS).sum() / count
    edges = ((1 - _generalised_overlap(finding.boxes, boxes)) * owned).sum() / count
    return sure + _EDGES_WEIGHT * edges


def _owners(
    centres: jax.Array, boxes: jax.Array, features: jax.Array, cell: float
) -> tuple[jax.Array, jax.Array]:
    """Returns for each cell the thing it answers for, the smallest one near, and if any is."""
    middles, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    reach = jnp.clip(sizes / 2, _LEAST_REACH_CELLS * cell, _REACH_CELLS * cell)
    near = (jnp.abs(centres[:, None] - middles) <= reach).all(axis=-1) & (features >= 0)
    areas = jnp.where(near, sizes.prod(axis=-1), jnp.inf)
    return areas.argmin(axis=1), near.any(axis=1)


def _generalised_overlap(one: jax.Array, two: jax.Array) -> jax.Array:
    """Returns GIoU of boxes (…, 4), -1 to 1. Source: Rezatofighi et al., CVPR 2019."""

    def area(low: jax.Array, high: jax.Array) -> jax.Array:
        return jnp.maximum(high - low, 0).prod(axis=-1)

    low, high = (one[..., :2], two[..., :2]), (one[..., 2:], two[..., 2:])
    shared = area(jnp.maximum(*low), jnp.minimum(*high))
    union = area(low[0], high[0]) + area(low[1], high[1]) - shared
    around = area(jnp.minimum(*low), jnp.maximum(*high))
    return shared / (union + 1e-7) - (around - union) / (around + 1e-7)


def _mask_loss(params: Params, finding: Finding, batch: Batch) -> jax.Array:
    logits = nets.mask(params, finding, jnp.asarray(batch.mask_boxes))
    wanted = jnp.asarray(batch.masks, jnp.float32) / 255
    each = optax.sigmoid_binary_cross_entropy(logits, wanted).mean((2, 3))
    count = jnp.maximum(batch.mask_counts.sum(), 1)
    return (each * batch.mask_counts).sum() / count

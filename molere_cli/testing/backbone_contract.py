"""The contract of a backbone: logits and features, forward-mode derivatives, all state in its tensors.

Shapes: B examples of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from molere_cli.engine.checkpoint import classifier_tensors
from molere_cli.engine.classifier import Classifier, build_classifier
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.random_state import RandomState
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import BackboneRequest, BackboneSpec
from molere_cli.testing.contract import copied, expect, options_of, same_tensors, seeded, under_test

CPU = torch.device("cpu")
BATCH_SIZE = 8
TOLERANCE = 1e-3
"""Of what is computed in two ways in float32, relative to the largest."""


def check_backbone(
    backbone: BackboneSpec | str,
    *,
    options: Mapping[str, Any] | None = None,
    num_classes: int = 5,
    image_size: tuple[int, int] = (32, 32),
) -> None:
    """Check that the engine can train a backbone, and take hypergradients through it.

    Args:
        backbone: its record, or the name of an installed one (`timm:resnet18`).
        image_size: (height, width) in pixels.

    Raises:
        BrokenContract, PluginError, TrainingError: it breaks the contract, in one sentence that says how.
    """
    found = load_plugins().backbone(backbone) if isinstance(backbone, str) else backbone
    spec = under_test(found)
    request = BackboneRequest(
        num_classes=num_classes, image_size=image_size, options=options_of(spec, options)
    )
    images = torch.randn(BATCH_SIZE, 3, *image_size, generator=torch.Generator().manual_seed(0))
    labels_B = torch.arange(BATCH_SIZE) % num_classes
    classifier = _built(spec, request, seed=0)
    _check_start(spec, request, classifier)
    _check_outputs(spec, classifier, images)
    _check_meta_passes(spec, classifier, images, labels_B)
    _check_state(spec, request, classifier, images)


def _built(spec: BackboneSpec, request: BackboneRequest, *, seed: int) -> Classifier:
    with seeded(seed):
        return build_classifier(spec, request, device=CPU, precision=torch.float32)


def _check_start(spec: BackboneSpec, request: BackboneRequest, classifier: Classifier) -> None:
    again = _built(spec, request, seed=0)
    expect(
        same_tensors(classifier.module.state_dict(), again.module.state_dict()),
        spec,
        "two networks built under one seed of torch must start from the same tensors",
    )


def _check_outputs(spec: BackboneSpec, classifier: Classifier, images: Tensor) -> None:
    with seeded(1):
        output = classifier.predict(images, with_features=True)
    with seeded(2):
        again = classifier.predict(images).logits
    expect(torch.equal(output.logits, again), spec, "in eval mode logits must be the same each time")
    expect(bool(output.logits.isfinite().all()), spec, "logits of finite images must be finite")
    features = output.features
    assert features is not None
    expect(
        len(features) == len(images) and bool(features.isfinite().all()),
        spec,
        "the input of its classification layer must be a finite row of features for each image",
    )
    one = classifier.predict(images[:1]).logits
    expect(
        _agree(one, output.logits[:1], scale=output.logits),
        spec,
        "in eval mode the logits of an image must not depend on the others of its batch",
    )


def _check_meta_passes(spec: BackboneSpec, classifier: Classifier, images: Tensor, labels_B: Tensor) -> None:
    """Forward mode through a replay of a training step, dropout masks and all, against reverse mode through
    the step itself; and what such passes leave behind."""
    parameters = classifier.parameters
    generator = torch.Generator().manual_seed(1)
    direction = {name: torch.randn(p.shape, generator=generator) for name, p in parameters.items()}
    with seeded(2):
        classifier.train()
        randomness = RandomState.capture(CPU)
        losses_B = F.cross_entropy(classifier.forward(images).logits, labels_B, reduction="none")
        expect(losses_B.requires_grad, spec, "logits must have a graph to the parameters in training mode")
        reverse_B = torch.stack([_along(loss, parameters, direction) for loss in losses_B])
        before = copied(classifier.module.state_dict())
        losses = classifier.step_losses(images, labels_B, randomness)
        try:
            forward_B = alignment(losses, parameters, direction)
        except (RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().partition("\n")[0]
            expect(False, spec, f"each of its operations must have a forward-mode derivative: {reason}")
        classifier.validation_gradient(images, labels_B)
    expect(
        same_tensors(before, classifier.module.state_dict()),
        spec,
        "passes with other tensors in place of its own must leave its parameters and buffers as they were",
    )
    expect(bool(reverse_B.any()), spec, "the loss must depend on the parameters")
    expect(
        _agree(forward_B, reverse_B, scale=reverse_B),
        spec,
        "derivatives of a training step's losses by forward mode, replayed under the same random state, must "
        "be those of reverse mode",
    )


def _along(loss: Tensor, parameters: Mapping[str, Tensor], direction: Mapping[str, Tensor]) -> Tensor:
    gradients = torch.autograd.grad(
        loss, list(parameters.values()), retain_graph=True, materialize_grads=True
    )
    return torch.stack([(g * direction[n]).sum() for n, g in zip(parameters, gradients, strict=True)]).sum()


def _check_state(
    spec: BackboneSpec, request: BackboneRequest, classifier: Classifier, images: Tensor
) -> None:
    other = _built(spec, request, seed=5)
    other.module.load_state_dict(classifier_tensors(classifier.module))
    expect(
        torch.equal(classifier.predict(images).logits, other.predict(images).logits),
        spec,
        "all that its predictions depend on must be in its state_dict, which is what a checkpoint keeps",
    )


def _agree(one: Tensor, other: Tensor, *, scale: Tensor) -> bool:
    return bool((one - other).abs().max() <= TOLERANCE * scale.abs().max())

"""How a step's batch goes through the classifier and back: at once or in chunks, by one rank or several.

Shapes: B examples of a batch, C classes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from molere_cli.data.feed import Batch, Feed
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.layer_rule import StepTrace
from molere_cli.engine.method import Method
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.step import Step


class Passes:
    """The forward and backward passes of a loop's steps."""

    def __init__(self, classifier: Classifier, feed: Feed) -> None:
        self.classifier = classifier
        self.ranks = classifier.ranks
        self.feed = feed

    def forward(self, method: Method, epoch: int, in_epoch: int, batch: Batch) -> Step:
        """A step as far as weights need it."""
        # From here the forward pass can be replayed with the same dropout masks.
        randomness = RandomState.capture(self.classifier.device)
        trace, with_features = None, method.weights_read == "features"
        if self.classifier.accumulate > 1:
            # Weights are relative to those of the whole batch, so all of it is seen before any backward pass.
            if method.weights_read == "nothing":
                return Step.unseen(epoch, in_epoch, batch, randomness)
            output = self.classifier.look_ahead(
                batch.images, num_whole=batch.num_whole, with_features=with_features
            )
        else:
            follows = self.classifier.has_no_cross_example_ops and method.follows(epoch, in_epoch)
            trace = StepTrace() if follows else None
            output = self.classifier.forward(batch.images, with_features=with_features, trace=trace)
        losses_B = F.cross_entropy(output.logits, batch.labels, reduction="none")
        step = Step(epoch, in_epoch, batch, output.logits, losses_B, output.features, randomness, trace=trace)
        self._see_whole(step)
        return step

    def _see_whole(self, step: Step) -> None:
        if step.batch.whole_positions is not None:
            step.of_whole = self._whole(step, step.batch.whole_positions)

    def _whole(self, step: Step, positions_B: Tensor) -> Step:
        logits_BC = self.ranks.gathered(step.logits, len(positions_B))
        labels_B = self.feed.labels[positions_B]
        batch = Batch(positions_B, step.batch.images, labels_B, positions_B)
        losses_B = F.cross_entropy(logits_BC, labels_B, reduction="none")
        return Step(step.epoch, step.in_epoch, batch, logits_BC, losses_B, None, step.randomness)

    def backward(self, method: Method, step: Step, weights_B: Tensor | None) -> Tensor:
        """Add to the gradients that of the method's loss over this rank's part of the batch, as a part of the
        mean over all of it; the loss itself, 0-dim, detached."""
        if self.classifier.accumulate == 1:
            return self._backward(method, step, weights_B, share=self.ranks.share(step.batch.num_whole))
        return self._backward_by_chunks(method, step, weights_B)

    def _backward(self, method: Method, step: Step, weights_B: Tensor | None, *, share: float) -> Tensor:
        weighted_loss = method.loss(step, weights_B)
        if share != 1:
            weighted_loss = weighted_loss * share
        weighted_loss.backward()
        return weighted_loss.detach()

    def _backward_by_chunks(self, method: Method, step: Step, weights_B: Tensor | None) -> Tensor:
        batch, device = step.batch, self.classifier.device
        replayed: AbstractContextManager[object] = nullcontext()
        if step.is_unseen:
            step.randomness = RandomState.capture(device)
        else:
            # What has been looked at, with the same dropout masks.
            replayed = step.randomness.replayed(device)
        logits, losses, seen = [], [], []
        with replayed:
            for chunk in self.classifier.chunks(len(batch.labels), num_whole=batch.num_whole):
                part = Batch(batch.positions[chunk], batch.images[chunk], batch.labels[chunk])
                output = self.classifier.forward(part.images)
                losses_b = F.cross_entropy(output.logits, part.labels, reduction="none")
                own = Step(step.epoch, step.in_epoch, part, output.logits, losses_b, None, step.randomness)
                weights_b = None if weights_B is None else weights_B[chunk]
                seen.append(self._backward(method, own, weights_b, share=len(losses_b) / batch.num_whole))
                logits.append(output.logits.detach())
                losses.append(losses_b.detach())
        if step.is_unseen:
            step.see(torch.cat(logits), torch.cat(losses))
            self._see_whole(step)
        return torch.stack(seen).sum()

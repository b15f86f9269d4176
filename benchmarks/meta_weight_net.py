"""Meta-Weight-Net's training loop (Shu et al. 2019, arXiv 1902.07379), for `training.py` to time.

Written out after the published algorithm: a lookahead step of SGD that stays in the graph, the validation
loss after it, a step of the weighting network, then the weights anew and the real step. Cheaper than the
published script in two ways: the network is called through `functional_call` rather than copied, and the
validation loss is differentiated by the weighting network alone.

Shapes: B examples of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from molere_cli.data.feed import epoch_batches
from molere_cli.engine.validation_batches import ValidationCycle
from molere_cli.foundation.randomness import derived_seed
from molere_cli.training.build_engine import Engine


def weighting_network() -> nn.Module:
    """1-100-1 with a sigmoid: from losses (B, 1) to weights (B, 1)."""
    return nn.Sequential(nn.Linear(1, 100), nn.ReLU(), nn.Linear(100, 1), nn.Sigmoid())


class MetaWeightNetLoop:
    """Trains an engine's classifier, with its optimizer and its feed, in place of its own loop."""

    def __init__(self, engine: Engine, in_validation: Tensor, *, interval: int) -> None:
        config = engine.plan.config
        self.engine = engine
        self.config = config
        self.interval = interval
        self.module = engine.classifier.module
        self.optimizer = engine.loop.optimizer
        self.parameters = dict(self.module.named_parameters())
        self.weighting = weighting_network()
        self.weighting_optimizer = torch.optim.Adam(self.weighting.parameters(), lr=1e-3, weight_decay=1e-4)
        self.cycle = ValidationCycle(
            in_validation.nonzero().squeeze(1), config.classifier.batch_size, config.machine.seed
        )
        self.epoch = 0

    def run_epoch(self) -> None:
        """One epoch over the whole pool, with a meta-update every `interval` steps."""
        seed = derived_seed(self.config.machine.seed, "train", self.epoch)
        feed = self.engine.feed
        batches = epoch_batches(torch.arange(len(feed)), self.config.classifier.batch_size, seed=seed)
        num_due = -(-len(batches) // self.interval)
        val_batches = feed.training([self.cycle.draw() for _ in range(num_due)], seed=seed + 1)
        self.module.train()
        for number, batch in enumerate(feed.training(batches, seed=seed)):
            if number % self.interval == 0:
                val = next(val_batches)
                self._meta_update(batch.images, batch.labels, val.images, val.labels)
            self._step(batch.images, batch.labels)
        self.epoch += 1

    def _meta_update(self, images: Tensor, labels: Tensor, val_images: Tensor, val_labels: Tensor) -> None:
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with self._autocast():
            logits_BC = functional_call(self.module, {**self.parameters, **buffers}, (images,))
        loss = self._weighted(F.cross_entropy(logits_BC.float(), labels, reduction="none"))
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), create_graph=True)
        lr = self.optimizer.param_groups[0]["lr"]
        stepped = {
            name: parameter - lr * gradient
            for (name, parameter), gradient in zip(self.parameters.items(), gradients, strict=True)
        }
        with self._autocast():
            val_logits = functional_call(self.module, {**stepped, **buffers}, (val_images,))
        val_loss = F.cross_entropy(val_logits.float(), val_labels)
        self.weighting_optimizer.zero_grad(set_to_none=True)
        val_loss.backward(inputs=list(self.weighting.parameters()))
        self.weighting_optimizer.step()

    def _step(self, images: Tensor, labels: Tensor) -> None:
        with self._autocast():
            logits_BC = self.module(images)
        losses_B = F.cross_entropy(logits_BC.float(), labels, reduction="none")
        with torch.no_grad():
            weights_B = self._weights(losses_B)
        self.optimizer.zero_grad(set_to_none=True)
        (weights_B * losses_B).sum().backward()
        self.optimizer.step()

    def _weighted(self, losses_B: Tensor) -> Tensor:
        return (self._weights(losses_B.detach()) * losses_B).sum()

    def _weights(self, losses_B: Tensor) -> Tensor:
        weights_B: Tensor = self.weighting(losses_B.unsqueeze(1)).squeeze(1)
        return weights_B / weights_B.sum()

    def _autocast(self) -> torch.autocast:
        # The cache of casted parameters must not outlive a step.
        bf16 = self.engine.plan.precision == "bf16"
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16, cache_enabled=False)

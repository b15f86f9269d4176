"""The classifier: a backbone with its precision, its features and its forward passes.

Every pass of the loop goes through here, so that batch statistics, dropout masks, autocast and the
global random state are treated in one place.

Shapes: B examples, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property, partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from molere_cli.engine.forward_mode import fast_forward_mode
from molere_cli.engine.layer_rule import StepTrace, has_no_cross_example_ops
from molere_cli.engine.layers import (
    captured_input,
    check_single_head,
    classification_layer,
    deterministic_layers,
    kept_modes,
    tensor_places,
)
from molere_cli.engine.random_state import RandomState, isolated_randomness
from molere_cli.engine.shared_batch_norm import shared_batch_norm
from molere_cli.foundation.errors import TrainingError
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.registry.specs import BackboneRequest, BackboneSpec


class Output(NamedTuple):
    """logits: float32 (B, C); features: float32 (B, D), detached, None if not asked for."""

    logits: Tensor
    features: Tensor | None

    @classmethod
    def joined(cls, parts: Iterable[Output]) -> Output:
        """That of several batches in a row."""
        logits, features = zip(*parts, strict=True)
        return cls(torch.cat(logits), None if features[0] is None else torch.cat(features))


class Classifier:
    """A backbone on a device. `module` is the plain network, as it is saved; `head` its classification layer.
    Passes take images, or after `take_features` what the backbone has made of them.

    freeze_backbone: only the classification layer trains; all else keeps its parameters and its running
    statistics, and has no dropout. ranks: who trains it; of a pass in training mode each has a part of the
    batch, and the statistics of batch norm are those of all of it. accumulate: in how many chunks, one after
    another, a rank takes its part; the statistics of batch norm are then those of a chunk (on all ranks).
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        device: torch.device,
        precision: torch.dtype,
        freeze_backbone: bool = False,
        accumulate: int = 1,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.accumulate = accumulate
        self.head = classification_layer(module)
        self._freeze_backbone = freeze_backbone
        if freeze_backbone:
            check_single_head(module)
            module.requires_grad_(False)
            self.head.requires_grad_(True)
        # Convolutions are fastest in this layout, on CPUs with vector units and on tensor cores alike.
        self.module = module.to(device).to(memory_format=torch.channels_last)
        self.device = device
        self.precision = precision
        self.feature_dim: int | None = None
        """The length of the features that passes take in place of images; None where they take images."""
        self.head_scales: dict[nn.Parameter, float] | None = None
        """How many times the learning rate a parameter of the head steps by (`build_optimizer`)."""
        self._run_as(self.module)

    def _run_as(self, network: nn.Module) -> None:
        """Have passes run all of the module, or its head alone."""
        self._network = network
        # By name, as `functional_call` takes them; of what is frozen no gradient is ever asked.
        self.parameters = {n: p for n, p in network.named_parameters() if p.requires_grad}
        self._places = tensor_places(network)

    def take_features(self, image_size: tuple[int, int]) -> bool:
        """From now on have passes take features, as `whole_pass` gives them, in place of images: of a frozen
        backbone they are always the same. `module` stays whole.

        Returns:
            Whether that can be: not where logits are more than what the classification layer makes of its
            input, as a trial shows.
        """
        generator = torch.Generator().manual_seed(0)
        whole = self.whole_pass(torch.randn(2, 3, *image_size, generator=generator).to(self.device))
        assert whole.features is not None
        self._run_as(self.head)
        with suppress(RuntimeError):
            logits_BC = self.predict(whole.features).logits
            if logits_BC.shape == whole.logits.shape and torch.allclose(
                logits_BC, whole.logits, rtol=1e-4, atol=1e-5
            ):
                self.feature_dim = whole.features.shape[1]
                return True
        self._run_as(self.module)
        return False

    def blank(self, image_size: tuple[int, int]) -> Tensor:
        """Two of what passes take, all zeros: images of (height, width), or features."""
        shape = (3, *image_size) if self.feature_dim is None else (self.feature_dim,)
        return torch.zeros(2, *shape, device=self.device)

    @torch.inference_mode()
    def whole_pass(self, images: Tensor) -> Output:
        """What the backbone makes of images (B, D) and the logits of its head, by the whole network in eval
        mode, whatever passes take."""
        with kept_modes(self.module):
            self.module.eval()
            return self._output(self.module, images, with_features=True)

    def train(self) -> None:
        """Go into training mode, but for what is frozen."""
        self._network.train(not self._freeze_backbone)
        self.head.train()

    def chunks(self, number: int, *, num_whole: int) -> list[slice]:
        """Which of a rank's examples go through the network together: as many chunks on every rank, whose
        sizes differ by one at most, of two examples at least where there are as many.

        Args:
            number: how many examples of the batch this rank has.
            num_whole: how many it has on all ranks.
        """
        # Two, since batch normalisation cannot take one.
        num_chunks = max(1, min(self.accumulate, num_whole // self.ranks.size // 2))
        ends = [chunk * number // num_chunks for chunk in range(num_chunks + 1)]
        return [slice(start, stop) for start, stop in pairwise(ends)]

    @cached_property
    def has_no_cross_example_ops(self) -> bool:
        """Whether a step of it can be followed (`layer_rule`)."""
        return has_no_cross_example_ops(self._network)

    def forward(
        self, images: Tensor, *, with_features: bool = False, trace: StepTrace | None = None
    ) -> Output:
        """A forward pass in whatever mode the module is in, recorded by autograd if it is on.

        Args:
            trace: to follow the pass with, where the classifier `has_no_cross_example_ops`.
        """
        if trace is None:
            with self.shared_statistics():
                return self._output(self._network, images, with_features=with_features)
        return trace.forward(
            lambda copies: self._output(partial(self._call, copies), images, with_features=with_features),
            self._network,
            len(images),
        )

    def followed_alignment(self, trace: StepTrace, direction: Mapping[str, Tensor], like: Tensor) -> Tensor:
        """`StepTrace.alignment` at the precision of the step."""
        names = {parameter: name for name, parameter in self.parameters.items()}
        with self._autocast():
            return trace.alignment(names, direction, like)

    @torch.no_grad()
    def meta_forward(self, images: Tensor, *, with_features: bool = False) -> Output:
        """A forward pass as `validation_gradient` takes it, without the gradient."""
        deterministic = deterministic_layers(self._network)
        with isolated_randomness(self.device), deterministic, self.shared_statistics():
            return self._by_chunks(images, len(images), with_features=with_features)

    @torch.no_grad()
    def look_ahead(self, images: Tensor, *, num_whole: int, with_features: bool = False) -> Output:
        """What the forward passes of a training step will give if they start at the same random state, chunk
        by chunk, without leaving a trace in the module."""
        with self.shared_statistics():
            return self._by_chunks(images, num_whole, with_features=with_features)

    def _by_chunks(self, images: Tensor, num_whole: int, *, with_features: bool) -> Output:
        return Output.joined(
            self._output(self._on_copied_buffers, images[chunk], with_features=with_features)
            for chunk in self.chunks(len(images), num_whole=num_whole)
        )

    @torch.inference_mode()
    def predict(self, images: Tensor, *, with_features: bool = False) -> Output:
        """A forward pass in eval mode, of this process alone."""
        with kept_modes(self._network):
            self._network.eval()
            return self._output(self._network, images, with_features=with_features)

    def validation_gradient(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        num_whole: int | None = None,
        at: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[Tensor, Tensor]]:
        """The mean loss on a validation batch (0-dim, detached) and its gradient for every parameter.

        Batch norm uses batch statistics without touching the running ones; dropout is off.

        Args:
            num_whole: how many examples the batch has on all ranks; their number here if that is all.
            at: values that stand in for the parameters of these names, which stay as they are.
        """
        # Leaves of their own: the caller's values are nobody's parameters and get no gradient.
        stand_ins = {name: value.detach().requires_grad_() for name, value in (at or {}).items()}
        values = [stand_ins.get(name, parameter) for name, parameter in self.parameters.items()]
        num_whole = num_whole or len(labels)
        sums: list[Tensor] = []
        for chunk in self.chunks(len(labels), num_whole=num_whole):
            deterministic = deterministic_layers(self._network)
            with isolated_randomness(self.device), deterministic, self.shared_statistics(), self._autocast():
                # Batch norm on batch statistics writes its running ones; these it may have.
                tensors = {**stand_ins, **self._buffer_copies()}
                logits_BC = _at_least_float32(self._call(tensors, images[chunk]))
                # This chunk's part of the mean over the whole batch.
                loss = F.cross_entropy(logits_BC, labels[chunk]) * (len(logits_BC) / num_whole)
            # Not `backward`: the response still needs the step's own gradients in `.grad`. A parameter
            # that the loss does not reach has gradient 0.
            found = [*torch.autograd.grad(loss, values, materialize_grads=True), loss.detach()]
            sums = [total.add_(more) for total, more in zip(sums, found, strict=True)] if sums else found
        self.ranks.sum_(sums)
        *gradients, loss = sums
        return loss, dict(zip(self.parameters.values(), gradients, strict=True))

    def step_losses(
        self, images: Tensor, labels: Tensor, randomness: RandomState, *, num_whole: int | None = None
    ) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """The per-example losses (B,) of a training step as a function of its parameters (`step_logits`)."""
        logits = self.step_logits(images, randomness, num_whole=num_whole)

        def losses(parameters: Mapping[str, Tensor]) -> Tensor:
            return F.cross_entropy(logits(parameters), labels, reduction="none")

        return losses

    def step_logits(
        self, images: Tensor, randomness: RandomState, *, num_whole: int | None = None
    ) -> Callable[[Mapping[str, Tensor]], Tensor]:
        """The logits (B, C) of a training step as a function of its parameters.

        Replays the step's dropout masks and precision, and leaves buffers and random state alone.
        Attention runs under the math kernel, since the fused ones have no forward derivative.

        Args:
            num_whole: how many examples the batch has on all ranks; their number here if that is all.
        """
        chunks = self.chunks(len(images), num_whole=num_whole or len(images))

        def logits(parameters: Mapping[str, Tensor]) -> Tensor:
            # Autocast's cache of casted weights would forget their tangents.
            autocast = self._autocast(cache_enabled=False)
            attention = sdpa_kernel(SDPBackend.MATH)
            # With other dropout masks it would be the derivative of another step than the one taken.
            replayed, shared = randomness.replayed(self.device), self.shared_statistics()
            with replayed, attention, fast_forward_mode(), shared, autocast:
                parts = [
                    _at_least_float32(self._call({**parameters, **self._buffer_copies()}, images[chunk]))
                    for chunk in chunks
                ]
            return torch.cat(parts)

        return logits

    def _output(self, run: Callable[[Tensor], Tensor], images: Tensor, *, with_features: bool) -> Output:
        if not with_features:
            with self._autocast():
                return Output(_at_least_float32(run(images)), None)
        with captured_input(self.head) as captured, self._autocast():
            logits_BC = _at_least_float32(run(images))
        # Detached: a reweighter or splitter that sees features does not teach the classifier through them.
        # The last call counts, should a network run its head more than once.
        return Output(logits_BC, _at_least_float32(captured[-1].detach().flatten(1)))

    def _on_copied_buffers(self, images: Tensor) -> Tensor:
        return self._call(self._buffer_copies(), images)

    def _call(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """The module's output with these in place of its parameters and buffers of the same names.

        `functional_call` can find the places of a shared tensor itself (`tie_weights`), but then swaps those
        of a module that is used twice twice, and leaves the second stand-in behind.
        """
        everywhere = {place: value for name, value in tensors.items() for place in self._places[name]}
        output: Tensor = functional_call(self._network, everywhere, (images,), tie_weights=False)
        return output

    def shared_statistics(self) -> AbstractContextManager[object]:
        """Within the block batch norm goes by all ranks' examples, in whatever network."""
        return shared_batch_norm(self.ranks) if self.ranks.are_several else nullcontext()

    def _buffer_copies(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self._network.named_buffers()}

    def _autocast(self, *, cache_enabled: bool = True) -> torch.autocast:
        return torch.autocast(
            self.device.type,
            dtype=torch.bfloat16,
            enabled=self.precision == torch.bfloat16,
            cache_enabled=cache_enabled,
        )


def build_backbone(spec: BackboneSpec, request: BackboneRequest) -> nn.Module:
    """The network; draws its initial parameters from the global random state.

    Raises:
        PluginError: a third party's cannot be built.
    """
    return spec.expected(spec.build(request), nn.Module, hook="build")


def build_classifier(
    spec: BackboneSpec,
    request: BackboneRequest,
    *,
    device: torch.device,
    precision: torch.dtype,
    freeze_backbone: bool = False,
    accumulate: int = 1,
    ranks: Ranks = ALONE,
) -> Classifier:
    """The classifier for a backbone; draws its initial parameters from the global random state.

    Raises:
        PluginError: a third party's backbone cannot be built, or fails in its first pass.
        TrainingError: what the backbone makes of a batch is not (B, C) logits.
    """
    module = build_backbone(spec, request)
    classifier = Classifier(
        module,
        device=device,
        precision=precision,
        freeze_backbone=freeze_backbone,
        accumulate=accumulate,
        ranks=ranks,
    )
    height, width = request.image_size
    # A trial on two blank images, so that what cannot work is known before anything is trained.
    with spec.watched("forward"):
        try:
            logits = classifier.predict(classifier.blank(request.image_size)).logits
        except RuntimeError as error:
            size = f"{height} x {width}"
            raise TrainingError(
                f"backbone {spec.name!r} cannot take images of {size} pixels: {_first_line(error)}"
            ) from error
    if logits.shape != (2, request.num_classes):
        raise TrainingError(
            f"backbone {spec.name!r} gives outputs of shape {tuple(logits.shape)} for 2 images "
            f"and {request.num_classes} classes"
        )
    return classifier


def _at_least_float32(values: Tensor) -> Tensor:
    # Losses and softmax of bf16 logits would have three digits; float64 stays, for the tests of exactness.
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]

"""Edits that stay on: a plain transformers model that computes with a recipe wherever it is used.

The hooks are objects of the model itself, so that a copy of the model has hooks of its own, on its own modules.
Positions are those of ``onesense.model.positions``, followed for each thread by itself. A wrapper such as peft may put
another module in the place of a hooked one; the hook then moves to what stands there now.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from types import MethodType
from typing import Any

from interp_engine.hooks import extract_hidden, hidden_arg_index, hidden_from_call, replace_hidden
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from onesense.errors import ConfigurationError, HookPointError, IncompatibleError
from onesense.model.hook_points import HookPoint
from onesense.model.hooks import rewritten
from onesense.model.language_model import LanguageModel, Side
from onesense.model.positions import Positions, PositionTracker
from onesense.steer.intervention import Intervention

_LENGTHENING = ("prefill_chunk_size", "prompt_lookup_num_tokens", "assistant_model")
"""Arguments of ``generate`` with which its first pass is not just the prompt."""


def install_lasting(model: LanguageModel, interventions: Sequence[Intervention]) -> None:
    """Put edits on a model for good, for every thread; ``generate`` tells them where its prompts end.

    Args:
        model: The model; its transformers model is changed, so it must not be anyone else's.
        interventions: The edits, ready to run. Those at one point act in their order.

    Raises:
        HookPointError: A hook point does not exist, or lies outside the model's body.
    """
    if not interventions:
        return
    body = model.hf.base_model
    passes = Passes(tuple(inspect.signature(body.forward).parameters))
    paths = {id(module): path for path, module in body.named_modules()}
    at_point: dict[HookPoint, list[Intervention]] = {}
    for one in interventions:
        at_point.setdefault(one.point, []).append(one)
    hooks = []
    for point, members in at_point.items():
        target = model.resolve(point)
        path = paths.get(id(target.module))
        if path is None:
            raise HookPointError(f"`{point}` lies outside the body of `{model.name}`.")
        hooks.append(LastingHook(passes, point, path, target.side, members))
    body.register_forward_pre_hook(Watcher(passes, hooks), with_kwargs=True)
    hf: Any = model.hf
    hf._onesense_passes = passes
    hf._onesense_needs_prompt_end = any(one.needs_prompt_end for one in interventions)
    hf.generate = MethodType(_generate, hf)
    refuse_saving(hf)


def refuse_saving(hf: PreTrainedModel) -> None:
    """Let ``save_pretrained`` refuse: files of weights do not carry hooks, and would be the unedited model."""
    hf.save_pretrained = MethodType(_save_pretrained, hf)  # type: ignore[method-assign]


class Passes:
    """The positions of the forward passes of a model, for each thread by itself.

    Args:
        signature: Names of the positional arguments of the model's body.
    """

    def __init__(self, signature: tuple[str, ...]) -> None:
        self._signature = signature
        self._local = threading.local()

    def __getstate__(self) -> tuple[str, ...]:
        return self._signature

    def __setstate__(self, signature: tuple[str, ...]) -> None:
        self._signature = signature
        self._local = threading.local()

    @property
    def current(self) -> Positions | None:
        """The positions of this thread's pass."""
        tracker: PositionTracker | None = getattr(self._local, "tracker", None)
        return None if tracker is None else tracker.current

    def observe(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Work out the positions of a pass that starts."""
        tracker: PositionTracker | None = getattr(self._local, "tracker", None)
        if tracker is None:
            tracker = PositionTracker(self._signature)
            if getattr(self._local, "generating", False):
                first = PositionTracker(self._signature).observe(args, kwargs)
                tracker = PositionTracker(self._signature, self._lengths(first))
            self._local.tracker = tracker
        tracker.observe(args, kwargs)

    def _lengths(self, first: Positions) -> list[int]:
        """Lengths of the prompts of a generation for each row; beams and returned sequences are rows too."""
        told: list[int] | None = self._local.prompts
        rows = int(first.index.shape[0])
        if told is None or rows % len(told):
            seen: list[int] = first.prompt_length.tolist()
            return seen
        return [length for length in told for _ in range(rows // len(told))]

    @contextmanager
    def generation(self, prompts: list[int] | None) -> Iterator[None]:
        """Take every pass within for a step of one generation, with or without a cache.

        Args:
            prompts: Real tokens of each prompt; None to take those of the first pass.
        """
        self._local.tracker, self._local.generating, self._local.prompts = None, True, prompts
        try:
            yield
        finally:
            self._local.tracker, self._local.generating = None, False


class LastingHook:
    """The edits at one hook point, on whatever module stands there.

    Args:
        passes: Knows the positions.
        point: The hook point.
        path: The module's path in the body.
        side: Which side of it is edited.
        interventions: The edits.
    """

    def __init__(
        self, passes: Passes, point: HookPoint, path: str, side: Side, interventions: Sequence[Intervention]
    ) -> None:
        self._passes, self._point, self._path, self._side = passes, point, path, side
        self._interventions = list(interventions)
        self._module: nn.Module | None = None
        self._handle: Any = None

    def follow(self, body: nn.Module) -> None:
        """Move to the module that stands at the path now: adapters replace modules, and put them back."""
        module = body.get_submodule(self._path)
        if module is self._module:
            return
        if self._handle is not None:
            self._handle.remove()
        self._module = module
        self._handle = (
            module.register_forward_hook(self._after)
            if self._side == "output"
            else module.register_forward_pre_hook(self._before, with_kwargs=True)
        )

    def _after(self, _module: nn.Module, _args: tuple[Any, ...], output: object) -> object:
        return replace_hidden(output, self._edited(extract_hidden(output)))

    def _before(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden = hidden_from_call(args, kwargs)
        if hidden is None:
            raise IncompatibleError(f"The module at `{self._point}` was called without a hidden state.")
        edited = self._edited(hidden)
        if kwargs.get("hidden_states") is hidden:
            return args, {**kwargs, "hidden_states": edited}
        place = hidden_arg_index(args)
        return (*args[:place], edited, *args[place + 1 :]), kwargs

    def _edited(self, hidden: Tensor) -> Tensor:
        def write(flat: Tensor, positions: Positions) -> Tensor:
            self._interventions = [one.to(flat.device) for one in self._interventions]
            for one in self._interventions:
                flat = one(flat, positions)
            return flat

        return rewritten(hidden, self._passes.current, write, self._point)


class Watcher:
    """Tells the passes of each forward of the body, and the hooks to follow their modules.

    Args:
        passes: The passes.
        hooks: The hooks.
    """

    def __init__(self, passes: Passes, hooks: Sequence[LastingHook]) -> None:
        self._passes, self._hooks = passes, tuple(hooks)

    def __call__(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before a forward pass."""
        self._passes.observe(args, kwargs)
        for hook in self._hooks:
            hook.follow(body)


@wraps(GenerationMixin.generate)
def _generate(hf: Any, *args: Any, **kwargs: Any) -> Any:
    """``generate`` of the model's class, with the prompts' ends known to the edits."""
    generate: Any = type(hf).generate
    with hf._onesense_passes.generation(_prompt_lengths(hf, kwargs)):
        return generate(hf, *args, **kwargs)


def _prompt_lengths(hf: Any, arguments: Mapping[str, Any]) -> list[int] | None:
    """Real tokens of each prompt as the mask says; None to take them from the first pass."""
    mask = arguments.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2:
        lengths: list[int] = (mask != 0).sum(1).tolist()
        return lengths
    configuration = arguments.get("generation_config") or hf.generation_config
    longer = [
        name
        for name in _LENGTHENING
        if (arguments.get(name) or getattr(configuration, name, None)) is not None
    ]
    if longer and hf._onesense_needs_prompt_end:
        raise ConfigurationError(
            f"With {longer[0]} and without an attention mask nobody can see where the prompt ends.",
            hint="Give attention_mask to generate, as the tokenizer returns it.",
        )
    return None


@wraps(PreTrainedModel.save_pretrained)
def _save_pretrained(hf: PreTrainedModel, *args: Any, without_edits: bool = False, **kwargs: Any) -> None:
    """``save_pretrained`` of the model's class, where the caller says that the edits may be lost."""
    if not without_edits:
        raise IncompatibleError(
            "This model computes with a recipe in hooks, and saved weights would be those of the unedited model.",
            hint="Export the recipe (onesense export RECIPE --to FOLDER) and load that, or keep the recipe and load it "
            "with onesense.load. An adapter of peft can be saved as it is. To save the unedited weights: "
            "save_pretrained(folder, without_edits=True).",
        )
    type(hf).save_pretrained(hf, *args, **kwargs)

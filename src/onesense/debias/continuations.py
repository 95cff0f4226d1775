"""Texts before and after: prompts continued by the unedited and by the edited model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onesense.debias.results import Continuation
from onesense.model.language_model import LanguageModel
from onesense.steer.generate import generate
from onesense.steer.intervention import EditGroup
from onesense.steer.sampling import Sampling

_TOKENS = 24
_TEMPERATURE = 0.7


def continuations(
    model: LanguageModel,
    groups: Sequence[EditGroup],
    prompts: Sequence[str],
    *,
    seed: int,
    report: Callable[[int, int], None],
) -> list[Continuation]:
    """Prompts, continued without and with edits, with the same noise.

    Args:
        model: The model.
        groups: The edits.
        prompts: What is continued.
        seed: Of the noise.
        report: Told prompts done and prompts wanted.
    """
    pairs = []
    for number, prompt in enumerate(prompts, start=1):
        made = generate(
            model,
            prompt,
            groups,
            max_new_tokens=_TOKENS,
            sampling=Sampling(temperature=_TEMPERATURE),
            seed=seed,
        )
        pairs.append(Continuation(prompt, made.unsteered[0].text, made.steered[0].text))
        report(number, len(prompts))
    return pairs

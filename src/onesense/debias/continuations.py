"""Texts before and after: prompts continued by the unedited and by the edited model, all in one batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onesense.debias.results import Continuation
from onesense.model.language_model import LanguageModel
from onesense.steer.apply import prepare
from onesense.steer.decoding import Row, encode_prompt, generate_rows
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

    Raises:
        ConfigurationError: A prompt is empty or too long.
    """
    encoded = [encode_prompt(model, prompt, max_new_tokens=_TOKENS) for prompt in prompts]
    rows = [Row(ids, 0, variant) for ids in encoded for variant in (None, 0)]
    texts, _ = generate_rows(
        model,
        rows,
        [prepare(model, groups)],
        sampling=Sampling(temperature=_TEMPERATURE),
        max_new_tokens=_TOKENS,
        seed=seed,
    )
    report(len(prompts), len(prompts))
    return [
        Continuation(prompt, before.text, after.text)
        for prompt, before, after in zip(prompts, texts[0::2], texts[1::2], strict=True)
    ]

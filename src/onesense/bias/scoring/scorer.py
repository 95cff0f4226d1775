"""Score many texts with one model in several variants: unedited, and edited in different ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from onesense.bias.scoring.batch import ScoringBatch, row_batches, tree_batches
from onesense.bias.scoring.encoded import Encoded, encode_requests
from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import Hidden, first_block, read_inputs, run
from onesense.bias.scoring.prefix_memory import PrefixMemory
from onesense.bias.scoring.requests import Divergence, Request, Score
from onesense.engine.executor import LocalExecutor
from onesense.errors import ConfigurationError
from onesense.model.batching import FittingBatch
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import encode_text
from onesense.steer.apply import Edits, applied_by_row, prepare
from onesense.steer.decoding import Row, encode_prompt, generate_rows
from onesense.steer.intervention import Intervention
from onesense.steer.sampling import Sampling

TOKENS_ON_CPU = 256
TOKENS_ON_GPU = 4096
ROWS_OF_GENERATION = 32

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class ScoringSettings:
    """How texts are scored; none of it changes a score by more than rounding.

    Attributes:
        batch_tokens: Tokens of a forward pass; None for what suits the device.
        trees: Whether texts that begin alike share a pass, where the model allows it.
        resume: Whether an edited pass goes on from where its edits begin.
        prefix_bytes: Memory for hidden states kept between calls, so that another recipe on the same texts
            need not run the model up to its hook point again; it changes no bit.
    """

    batch_tokens: int | None = None
    trees: bool = True
    resume: bool = True
    prefix_bytes: int = field(default=0, compare=False)


class _Variant:
    """Edits that are ready to run, and what they did so far."""

    def __init__(self, model: LanguageModel, edits: Edits | None, *, force: bool) -> None:
        self.interventions: list[Intervention] = [] if edits is None else prepare(model, edits, force=force)
        self.start = min((first_block(one.point) for one in self.interventions), default=model.n_layers)
        self.needs_rows = any(edit.where.needs_prompt_end for one in self.interventions for edit in one.edits)
        self.positions = 0
        self.largest_dose = 0.0


class ModelScorer:
    """See ``Scorer``.

    Args:
        model: The model.
        variants: For each variant its edits, or None for the model as it is. Variant 0 is what the others
            are compared with.
        settings: How to score.
        force: Whether to go on with another model or dictionary than a recipe was made for.
        memory: Hidden states shared with another scorer of the same model.

    Raises:
        IncompatibleError, ConfigurationError, NotFoundError: See ``onesense.steer.apply.prepare``.
    """

    def __init__(
        self,
        model: LanguageModel,
        variants: Sequence[Edits | None] = (None,),
        *,
        settings: ScoringSettings | None = None,
        force: bool = False,
        memory: PrefixMemory | None = None,
    ) -> None:
        if not variants:
            raise ConfigurationError("There is no variant of the model to score.")
        self.model = model
        self.settings = settings or ScoringSettings()
        self._variants = [_Variant(model, edits, force=force) for edits in variants]
        # Of all variants, so that a scorer of some of them works in the same way.
        self._plain = not any(one.interventions for one in self._variants)
        self._by_row = any(one.needs_rows for one in self._variants)
        self._memory = memory or PrefixMemory(self.settings.prefix_bytes)
        self._fitting = FittingBatch("Scoring texts")
        self._writing = FittingBatch("Generating text")

    def with_variants(self, variants: Sequence[Edits | None], *, force: bool = False) -> ModelScorer:
        """A scorer of other variants that shares the hidden states kept."""
        twin = ModelScorer(self.model, variants, settings=self.settings, force=force, memory=self._memory)
        twin._fitting, twin._writing = self._fitting, self._writing
        return twin

    def only(self, variants: Sequence[int]) -> ModelScorer:
        """A scorer of some of the variants; their scores are to the last bit those that this one gives them."""
        twin = copy(self)
        twin._variants = [self._variants[number] for number in variants]
        return twin

    def logits_equal(self, requests: Sequence[Request], variant: int) -> bool:
        """Whether a variant gives some texts the logits of variant 0, to the last bit, wherever they are scored.

        Args:
            requests: The texts; those longer than the model's context do not count.
            variant: Number of the variant.
        """
        encoded = encode_requests(self.model, requests)
        texts = list(dict.fromkeys(text for text in encoded if self._fits(text)))
        pair = self.only([0, variant])

        def equal(batch: ScoringBatch) -> bool:
            (_, first), (_, second) = pair._passes(batch)
            return torch.equal(first, second)

        batches = pair._batches(texts, None)
        return all(same for batch in batches for _, same in pair._fitted(batch, texts, equal))

    @property
    def shares_prefixes(self) -> bool:
        """Whether no edit keeps texts apart that begin alike: with one that does, all variants run text by text."""
        return not self._by_row

    @property
    def n_variants(self) -> int:
        """See ``Scorer``."""
        return len(self._variants)

    @property
    def max_context(self) -> int:
        """See ``Scorer``."""
        return self.model.max_context

    def take_effects(self) -> list[tuple[int, float]]:
        """What the edits of each variant did since this was last asked.

        Returns:
            For each variant the positions at which an activation changed, and the largest mean relative dose of a
            batch; above 1 the edit outweighs the activation.
        """
        effects = [(one.positions, one.largest_dose) for one in self._variants]
        for one in self._variants:
            one.positions, one.largest_dose = 0, 0.0
        return effects

    def token_ids(self, text: str) -> list[int]:
        """See ``Scorer``."""
        return encode_text(self.model, text, prepend_bos=False)

    def score(
        self, requests: Sequence[Request], *, progress: Callable[[int, int | None], None] | None = None
    ) -> list[list[Score]]:
        """See ``Scorer``.

        Args:
            requests: What to score.
            progress: Told how many texts are done, and how many there are.

        Raises:
            ConfigurationError: A text has no token to score.
            NumericalError: The logits are NaN.
        """
        encoded = encode_requests(self.model, requests)
        texts = list(dict.fromkeys(text for text in encoded if self._fits(text)))
        sums = np.full((self.n_variants, len(texts), 2), np.nan)
        with self._workers() as executor:
            scored = executor.map_shards(partial(self._scored, texts), self._batches(texts, progress))
            for batch, found in chain.from_iterable(scored):
                sums[:, [span.text for span in batch.spans]] = found
        place = {text: index for index, text in enumerate(texts)}
        return [
            [
                Score(
                    float(sums[variant, place[text], 0]),
                    len(text.ids) - text.start,
                    bool(sums[variant, place[text], 1] == 0),
                )
                if text in place
                else Score(float("nan"), len(text.ids) - text.start, False)
                for text in encoded
            ]
            for variant in range(self.n_variants)
        ]

    def divergence(self, requests: Sequence[Request]) -> list[list[Divergence]]:
        """See ``Scorer``; a position is one that predicts a scored token."""
        encoded = encode_requests(self.model, requests)
        texts = list(dict.fromkeys(text for text in encoded if self._fits(text)))
        sums = np.full((self.n_variants, len(texts)), np.nan)
        for planned in self._batches(texts, None):
            for batch, found in self._fitted(planned, texts, self._diverged):
                sums[:, [span.text for span in batch.spans]] = found
        place = {text: index for index, text in enumerate(texts)}
        return [
            [
                Divergence(
                    float(sums[variant, place[text]]) if text in place else float("nan"),
                    len(text.ids) - text.start,
                )
                for text in encoded
            ]
            for variant in range(self.n_variants)
        ]

    def complete(
        self, prompts: Sequence[str], *, samples: int, max_new_tokens: int, seed: int
    ) -> list[list[list[str]]]:
        """See ``Scorer``. A sample has the same noise in every variant and batch."""
        encoded = [encode_prompt(self.model, prompt, max_new_tokens=max_new_tokens) for prompt in prompts]
        texts = []
        for variant in self._variants:
            # Noise of its own for each prompt and sample, the same in every variant.
            rows = [Row(ids, at * samples + i, 0) for at, ids in enumerate(encoded) for i in range(samples)]
            order = sorted(range(len(rows)), key=lambda row: len(rows[row].prompt))
            made = [""] * len(rows)
            for start in range(0, len(rows), ROWS_OF_GENERATION):
                some = order[start : start + ROWS_OF_GENERATION]
                found, report = generate_rows(
                    self.model,
                    [rows[row] for row in some],
                    [variant.interventions],
                    sampling=Sampling(),
                    max_new_tokens=max_new_tokens,
                    seed=seed,
                    fitting=self._writing,
                )
                variant.positions += report.positions
                for row, sample in zip(some, found, strict=True):
                    made[row] = sample.text
            texts.append([made[at : at + samples] for at in range(0, len(rows), samples)])
        return texts

    def _scored(
        self, texts: Sequence[Encoded], planned: ScoringBatch
    ) -> list[tuple[ScoringBatch, NDArray[np.float64]]]:
        """Batches, and for each variant and span the log-probability and the tokens that are not greedy."""

        def scored(batch: ScoringBatch) -> NDArray[np.float64]:
            return np.stack([batch.summed(_logprobs(batch, logits)).T for _, logits in self._passes(batch)])

        return list(self._fitted(planned, texts, scored))

    def _diverged(self, batch: ScoringBatch) -> NDArray[np.float64]:
        """For each variant and span the divergence from variant 0, [variants, spans]."""
        found = []
        base: Tensor | None = None
        # Apple's devices have nothing wider.
        wide = torch.float32 if self.model.device.type == "mps" else torch.float64
        for _, logits in self._passes(batch):
            log_probs = logits.log_softmax(-1)
            base = log_probs if base is None else base
            # Rounding can make a divergence of nothing slightly negative.
            kl = (base.exp() * (base - log_probs)).sum(-1, dtype=wide).clamp_min(0)
            found.append(batch.summed(_of_steps(batch, kl)))
        return np.stack(found)

    def _fitted(
        self, planned: ScoringBatch, texts: Sequence[Encoded], work: Callable[[ScoringBatch], Found]
    ) -> Iterator[tuple[ScoringBatch, Found]]:
        """Work on a batch, or on its parts where the device has no room for it."""

        def attempt(batch: ScoringBatch) -> Found:
            before = [(one.positions, one.largest_dose) for one in self._variants]
            try:
                return work(batch)
            except BaseException:
                for one, effects in zip(self._variants, before, strict=True):
                    one.positions, one.largest_dose = effects
                raise

        return self._fitting.over_parts(
            planned,
            attempt,
            tokens=lambda batch: batch.tokens.numel(),
            parts=lambda batch, most: batch.parts(texts, most),
            before_retry=self._memory.clear,
        )

    @contextmanager
    def _workers(self) -> Iterator[LocalExecutor]:
        """Plain passes run side by side on a thread each: small products share two cores badly."""
        threads = torch.get_num_threads()
        plain = self._plain and self.model.device.type == "cpu" and not self.model.offloaded
        layout_of(self.model)  # found out once, before threads ask for it
        try:
            with LocalExecutor(threads if plain else 1) as executor:
                if executor.workers > 1:
                    torch.set_num_threads(1)
                yield executor
        finally:
            torch.set_num_threads(threads)

    def _fits(self, text: Encoded) -> bool:
        return len(text.ids) <= self.model.max_context

    def _batches(
        self, texts: Sequence[Encoded], progress: Callable[[int, int | None], None] | None
    ) -> Iterator[ScoringBatch]:
        size = self.settings.batch_tokens or (
            TOKENS_ON_CPU if self.model.device.type == "cpu" else TOKENS_ON_GPU
        )
        layout = layout_of(self.model)
        trees = self.settings.trees and layout.trees and self.shares_prefixes
        longest = layout.longest_tree if trees else 0
        short = {index: text for index, text in enumerate(texts) if len(text.ids) <= longest}
        long = {index: text for index, text in enumerate(texts) if len(text.ids) > longest}
        done = 0
        for batch in chain(tree_batches(short, size), row_batches(long, size)):
            yield batch
            done += len(batch.spans)
            if progress is not None:
                progress(done, len(texts))

    def _passes(self, batch: ScoringBatch) -> Iterator[tuple[int, Tensor]]:
        """The logits of each variant at the batch's nodes; what comes before the first edit is run once for all."""
        resumes = self.settings.resume and layout_of(self.model).resumes
        starts = {one.start for one in self._variants if one.interventions} if resumes else set()
        kept: Hidden = {}
        for start in starts:
            hidden = self._memory.get(batch, start)
            if hidden is not None:
                kept[start] = hidden
        missing = sorted(starts - set(kept))
        plain: Tensor | None = None
        if any(not one.interventions for one in self._variants):
            plain, found = run(self.model, batch, nodes=torch.from_numpy(batch.nodes), keep=missing)
            kept |= found
            self._memory.put(batch, found)
        for number, variant in enumerate(self._variants):
            if not variant.interventions:
                if plain is not None:
                    yield number, plain
                continue
            if missing and not kept.keys() >= starts:
                found = read_inputs(self.model, batch, missing)
                kept |= found
                self._memory.put(batch, found)
            yield number, self._edited(batch, variant, kept)

    def _edited(self, batch: ScoringBatch, variant: _Variant, kept: Hidden) -> Tensor:
        resume = (variant.start, kept[variant.start]) if variant.start in kept else None
        lengths = [batch.tokens.shape[1]] if batch.prompt_lengths is None else batch.prompt_lengths
        with applied_by_row(self.model, [variant.interventions], None, prompt_lengths=lengths) as report:
            logits, _ = run(self.model, batch, nodes=torch.from_numpy(batch.nodes), resume=resume)
        variant.positions += report.positions
        doses = [dose.relative or 0.0 for dose in report.doses]
        variant.largest_dose = max(variant.largest_dose, *doses, 0.0)
        return logits


def _logprobs(batch: ScoringBatch, logits: Tensor) -> NDArray[np.float64]:
    """For each step its log-probability, and 1 where its token is not the most probable one, [2, steps]."""
    tokens = torch.from_numpy(batch.target[batch.scored]).to(logits.device)
    rows = torch.from_numpy(np.searchsorted(batch.nodes, batch.origin[batch.scored])).to(logits.device)
    found = np.zeros((2, len(batch.origin)))
    found[0, batch.scored] = logits.log_softmax(-1)[rows, tokens].cpu().double().numpy()
    found[1, batch.scored] = (logits.argmax(-1)[rows] != tokens).cpu().numpy()
    return found


def _of_steps(batch: ScoringBatch, values: Tensor) -> NDArray[np.float64]:
    """What is known of the batch's nodes, for each step that goes from one; 0 for steps that are not scored."""
    found = np.zeros(len(batch.origin))
    places = np.searchsorted(batch.nodes, batch.origin[batch.scored])
    found[batch.scored] = values.cpu().numpy()[places]
    return found

"""Which controls a recipe is compared with, and on what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from onesense.bias.benchmark import Benchmark
from onesense.bias.scoring.requests import Request
from onesense.debias.proof.benchmarks import proof_benchmarks, require_held_out
from onesense.debias.proof.variants import KINDS, RANDOM
from onesense.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class ProofSettings:
    """What is wanted of a proof.

    Attributes:
        target_kl: KL to bring everything to, nats per token; None for the recipe's own.
        kinds: Which controls: some of ``KINDS``.
        only: Beginnings of the names of controls; the others are left out. Empty for all.
        draws: Draws of random features; they are scored on the first benchmark that has its data.
        benchmarks: Held-out and guard benchmarks; None for all of ``proof_benchmarks``.
        calibration: Texts on which KL is measured; None for passages that no audit reads.
        bootstrap_draws: Draws of clusters for the intervals.
        seed: Of everything that is drawn.

    Raises:
        ConfigurationError: A benchmark is not held out, an unknown kind, or a number out of range.
    """

    target_kl: float | None = None
    kinds: tuple[str, ...] = KINDS
    only: tuple[str, ...] = ()
    draws: int = 20
    benchmarks: Sequence[Benchmark] | None = None
    calibration: Sequence[Request] | None = None
    bootstrap_draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        require_held_out(self.held_out())
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ConfigurationError(
                f"There is no kind of control {unknown[0]!r}.", hint=f"Kinds: {', '.join(KINDS)}."
            )
        if self.target_kl is not None and not 0 < self.target_kl < math.inf:
            raise ConfigurationError(
                f"The KL to bring everything to is {self.target_kl}; it must be a number above 0.",
                hint="Leave it out for the recipe's own.",
            )
        if RANDOM in self.kinds and self.draws < 1:
            raise ConfigurationError(
                f"Random features need at least one draw, not {self.draws}.",
                hint=f"20 are usual; leave out the kind `{RANDOM}` for none.",
            )
        if self.bootstrap_draws < 1:
            raise ConfigurationError(
                f"The bootstrap needs at least one draw, not {self.bootstrap_draws}.",
                hint="10,000 is the usual number.",
            )
        if self.seed < 0:
            raise ConfigurationError(f"A seed is 0 or more, not {self.seed}.", hint="Take 0.")

    def held_out(self) -> Sequence[Benchmark]:
        """The benchmarks."""
        return proof_benchmarks(quick=False) if self.benchmarks is None else self.benchmarks

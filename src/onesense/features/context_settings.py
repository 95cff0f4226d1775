"""What the contexts pass keeps, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass

from onesense.errors import ConfigurationError

_LARGEST_WIDTH = 2**15


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """How the pass is made and how much of it is kept.

    Attributes:
        context_size: Tokens that the model sees at once, BOS included; None: what the dictionary was trained
            with, else 128, at most what the model can do.
        batch_tokens: Tokens that go through the model together, padding included.
        top_k: Strongest contexts a feature.
        bands: Activation bands a feature, each an octave, the last for all the rest.
        per_band: Contexts sampled a band.
        width: Tokens of a context; three quarters of them before the peak where the text allows.
        max_tokens: Stop after so many tokens; None: read all the text.
        seed: Seed of the sample.
        outlier_factor: Positions whose norm is more than so many times the median do not count; the median is
            that of the first 2,000 tokens, so that it depends on neither batches nor shards.
        windows_per_shard: Windows in a unit of resume.
        features_at_once: Features of a dictionary whose tables are in memory together: those of a larger one are
            looked at part by part, on activations that are kept for a shard, and its weights are read from disk.
    """

    context_size: int | None = None
    batch_tokens: int = 4096
    top_k: int = 20
    bands: int = 6
    per_band: int = 8
    width: int = 32
    max_tokens: int | None = None
    seed: int = 0
    outlier_factor: float = 5.0
    windows_per_shard: int = 1024
    features_at_once: int = 2**16

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigurationError: A value is out of its range.
        """
        least = {
            "batch_tokens": 1,
            "top_k": 1,
            "bands": 2,
            "per_band": 1,
            "width": 1,
            "windows_per_shard": 1,
            "features_at_once": 1,
        }
        for name, smallest in least.items():
            if getattr(self, name) < smallest:
                raise ConfigurationError(
                    f"`{name}` must be at least {smallest}.", hint="Give a larger number."
                )
        if self.width > _LARGEST_WIDTH:
            raise ConfigurationError(
                f"`width` must be at most {_LARGEST_WIDTH}.", hint="Give a smaller number."
            )
        if not 0 <= self.seed < 2**64:
            raise ConfigurationError("`seed` must be from 0 to 2^64 - 1.", hint="Give a smaller number.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigurationError(
                "`max_tokens` must be at least 1.", hint="Leave it out to read all the text."
            )
        if not self.outlier_factor > 1:
            raise ConfigurationError("`outlier_factor` must be above 1.", hint="The usual value is 5.")

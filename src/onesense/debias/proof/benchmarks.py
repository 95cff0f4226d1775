"""Which benchmarks a proof may rest on, and which it takes where none are chosen."""

from __future__ import annotations

from collections.abc import Sequence

from onesense.bias.benchmark import Benchmark, Split
from onesense.bias.benchmarks.crows_pairs import CrowsPairs
from onesense.bias.benchmarks.gender_facts import GenderFacts
from onesense.bias.benchmarks.kl import KlDivergence
from onesense.bias.benchmarks.occupations import Occupations
from onesense.bias.benchmarks.stereoset import StereoSet
from onesense.bias.benchmarks.winobias import WinoBias
from onesense.errors import ConfigurationError

_ALLOWED = (Split.HELD_OUT, Split.GUARD)


def proof_benchmarks(quick: bool) -> list[Benchmark]:
    """The benchmarks of a proof; random features are scored on the first one.

    Args:
        quick: Whether to take only what comes with the package and is scored in minutes.
    """
    if quick:
        return [Occupations(Split.HELD_OUT, templates=6), GenderFacts(Split.GUARD)]
    return [
        Occupations(Split.HELD_OUT),
        WinoBias("test"),
        CrowsPairs(),
        StereoSet("test", "gender"),
        GenderFacts(Split.GUARD),
        KlDivergence(),
    ]


def require_held_out(benchmarks: Sequence[Benchmark]) -> None:
    """Refuse what was searched or tuned on.

    Raises:
        ConfigurationError: A benchmark is of the find or the tune split, or there is none at all.
    """
    if not benchmarks:
        raise ConfigurationError("There is no benchmark to prove anything on.", hint="Give one at least.")
    for one in benchmarks:
        if one.split not in _ALLOWED:
            raise ConfigurationError(
                f"`{one.key}` belongs to the {one.split.value} split, and the proof rests on held-out data.",
                hint="Choose benchmarks of the splits held-out and guard.",
            )

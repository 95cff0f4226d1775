"""The candidates of a run in its catalogue, where they can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Sequence

from onesense.debias.results import EditedFeature, FeatureEvidence
from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog
from onesense.store.run_folder import RunFolder


def write_candidates(
    run: RunFolder, candidates: Sequence[FeatureEvidence], edited: Sequence[EditedFeature]
) -> None:
    """Put candidates and edited features into the catalogue of a run, in place of those that are there.

    Raises:
        StorageError: It cannot be written; what was there stays.
    """
    edits = {_key(one.evidence): one for one in edited}
    every = {_key(one): one for one in (*candidates, *(one.evidence for one in edited))}
    with Catalog(run.catalog_path) as catalog:
        catalog.replace_candidates(_row(one, edits.get(key)) for key, one in every.items())


def _key(one: FeatureEvidence) -> tuple[str, int]:
    return one.hook_point, one.feature


def _row(found: FeatureEvidence, edit: EditedFeature | None) -> CandidateRow:
    without = None if edit is None else edit.without
    return CandidateRow(
        found.hook_point,
        found.feature,
        bias=found.bias,
        toward_women=found.toward_women,
        fact=found.fact,
        kl=found.kl,
        density=found.density,
        swapped=found.swapped,
        gender_words=found.gender_words,
        factor=None if edit is None else edit.factor,
        without_spread=None if without is None else without.spread,
        promoted=found.promoted,
        suppressed=found.suppressed,
    )

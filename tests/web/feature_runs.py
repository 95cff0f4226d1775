"""Small runs for tests of the table of features: everything in them is known, some of it is hostile."""

from __future__ import annotations

from pathlib import Path

from onesense.store.candidates import CandidateRow
from onesense.store.catalog import Catalog, FeatureRow
from onesense.store.explanations import ExplanationRow, ScoreRow, write_explanations, write_scores
from onesense.store.provenance import provenance
from onesense.store.run_folder import RunFolder
from onesense.store.senses import SenseRow, replace_senses

HOOK_POINT = "blocks.1.hook_resid_post"
FINGERPRINT = "ab" * 32
SCRIPT = "<script>document.title='owned'</script>"
FEATURES = (
    FeatureRow(0, density=0.001, max_activation=5.0, top_tokens=[" she", " her"], bottom_tokens=[" nurse"]),
    FeatureRow(1, density=0.02, max_activation=9.0, top_tokens=[" garden", "="], bottom_tokens=[" he"]),
    FeatureRow(2, density=0.02, max_activation=2.0, top_tokens=["=cmd|' /C calc'!A0", SCRIPT]),
    FeatureRow(3, density=0.3, max_activation=None, top_tokens=["\n", "\x00", "\ud800", "\u202e", "1984"]),
    FeatureRow(4, density=None, max_activation=7.0, top_tokens=[]),
    FeatureRow(7, density=0.004, max_activation=7.0, top_tokens=[" gardens"]),
)
EXPLANATIONS = (
    ExplanationRow(0, method="lexical", text="pronouns of women"),
    ExplanationRow(0, method="llm", model="reader", text="she, as a subject"),
    ExplanationRow(0, sense=1, method="llm", model="reader", text="ships and hurricanes"),
    ExplanationRow(1, method="llm", model="reader", text="places to sit: gardens, parks"),
    ExplanationRow(2, method="llm", model="reader", text=f'=HYPERLINK("http://x") {SCRIPT}'),
    ExplanationRow(3, method="llm", model="reader", status="refused", detail="would not say"),
    ExplanationRow(3, method="lexical", status="unparseable"),
)
SCORES = (
    ScoreRow(0, model="reader", kind="detection", judge="a", value=0.8),
    ScoreRow(0, model="reader", kind="detection", judge="b", value=0.7),
    ScoreRow(0, model="reader", kind="fuzz", judge="a", value=0.9),
    ScoreRow(0, method="lexical", kind="detection", judge="lexical", value=0.95),
    ScoreRow(1, model="reader", kind="fuzz", judge="a", value=0.6),
    ScoreRow(2, method="none", model="", kind="intruder", judge="a", value=0.99),
)
SENSES = (
    SenseRow("features", 0, number=2, tokens=[[" she", " her"], [" frigate"]]),
    SenseRow("features", 1, number=1, tokens=[[" garden"]]),
    SenseRow("features", 2, number=None, tokens=[[]]),
    SenseRow("neurons", 3, number=5, tokens=[[" neuron"]]),
)
CANDIDATES = (
    CandidateRow(HOOK_POINT, 0, bias=0.2),
    CandidateRow(HOOK_POINT, 7, bias=0.05),
    CandidateRow("blocks.0.hook_resid_post", 1, bias=0.9),
)


def make_extract_run(folder: Path, features: tuple[FeatureRow, ...] = FEATURES) -> RunFolder:
    """A run of ``onesense extract``."""
    run = RunFolder.create_or_resume(
        folder,
        command="extract",
        configuration={"model": "small", "hook_point": HOOK_POINT, "dictionary": "made/up"},
        provenance=provenance(dictionary={"fingerprint": FINGERPRINT, "name": "made/up"}, seeds=0),
    )
    known = {row.feature for row in features}
    with Catalog(run.catalog_path) as catalog:
        catalog.replace_features(features)
        write_explanations(catalog, [row for row in EXPLANATIONS if row.feature in known])
        write_scores(catalog, [row for row in SCORES if row.feature in known])
    return run


def make_senses_run(folder: Path, fingerprint: str = FINGERPRINT) -> RunFolder:
    """A run of ``onesense senses measure``."""
    run = RunFolder.create_or_resume(
        folder,
        command="senses measure",
        configuration={"hook_point": HOOK_POINT},
        provenance=provenance(dictionary={"fingerprint": fingerprint, "name": "made/up"}, seeds=0),
    )
    with Catalog(run.catalog_path) as catalog:
        replace_senses(catalog, SENSES)
    return run


def make_debias_run(folder: Path, fingerprint: str = FINGERPRINT) -> RunFolder:
    """A run of ``onesense debias``."""
    run = RunFolder.create_or_resume(
        folder,
        command="debias",
        configuration={},
        provenance=provenance(dictionary={HOOK_POINT: fingerprint}, seeds=0),
    )
    with Catalog(run.catalog_path) as catalog:
        catalog.replace_candidates(CANDIDATES)
    return run

"""What debiasing found, did and proved, as plain values that are written, read and shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from onesense.bias.results import AuditResult


@dataclass(frozen=True, slots=True)
class FeatureEvidence:
    """What is known of one feature before anything is changed; effects are of first order.

    Attributes:
        hook_point: Where its dictionary reads the model.
        feature: Its id.
        bias: Standard deviation over neutral prompts of what it adds to the log-odds of “she” against “he”, nats.
        toward_women: Correlation of that with the log-odds themselves: above 0 it drives the stereotype,
            below 0 it works against it.
        fact: What it adds to the margin of gender facts on average, nats.
        kl: KL divergence per token of ordinary text that turning it off would make, nats.
        density: Share of the positions of ordinary text at which it fires.
        swapped: Mean difference of its latent between texts about women and the same about men, over the mean of
            both; None where it never fires there.
        promoted: Tokens that it promotes most (logit lens).
        suppressed: Tokens that it suppresses most.
        gender_words: p of its promoted and suppressed tokens holding so many gender words by chance
            (hypergeometric); None where it was not looked at.
        prompts: Prompts to which it adds most, with the nats that it adds.
        senses: How many senses it has; None where that was not measured.
    """

    hook_point: str
    feature: int
    bias: float
    toward_women: float
    fact: float
    kl: float
    density: float
    swapped: float | None = None
    promoted: tuple[str, ...] = ()
    suppressed: tuple[str, ...] = ()
    gender_words: float | None = None
    prompts: tuple[tuple[str, float], ...] = ()
    senses: int | None = None


@dataclass(frozen=True, slots=True)
class FeatureContext:
    """A stretch of ordinary text in which a feature fires.

    Attributes:
        tokens: The tokens as text.
        activations: The feature's latent at each of them.
        peak: Index of the token at which it fires most.
    """

    tokens: tuple[str, ...]
    activations: tuple[float, ...]
    peak: int


@dataclass(frozen=True, slots=True)
class EditEffect:
    """What edits do to a few prompts and passages, few enough to measure many sets of edits.

    Attributes:
        spread: Spread over tune occupations, as a share of the unedited model's.
        kl: KL divergence per token of ordinary text, nats.
    """

    spread: float
    kl: float


@dataclass(frozen=True, slots=True)
class EditedFeature:
    """One feature of a recipe, what its edit does by itself, and where it fires.

    Attributes:
        evidence: What was known of it.
        factor: What its latent is multiplied by.
        threshold: What is taken off its latent after that (the latent does not go below 0).
        without: What the recipe does if this feature alone is left unedited; None where it was not measured.
        contexts: Where it fires most in ordinary text, the strongest first; empty where it never fires there.
    """

    evidence: FeatureEvidence
    factor: float
    threshold: float
    without: EditEffect | None = None
    contexts: tuple[FeatureContext, ...] = ()


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """One recipe of the Pareto front, measured on the tune split and on text that no audit uses.

    Attributes:
        budget: KL divergence per token that it was allowed, nats.
        kl: What it takes.
        spread: Spread of the log-odds over tune occupations, as a share of the unedited model's.
        slope: Slope against the share of women, as a share of the unedited model's.
        facts: Mean margin of tune facts, as a share of the unedited model's.
        features: How many features it edits.
        recipe: File of the recipe, relative to the run folder.
        content_hash: Its hash.
    """

    budget: float
    kl: float
    spread: float
    slope: float
    facts: float
    features: int
    recipe: str
    content_hash: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with a 95 % interval (cluster bootstrap)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ControlMetric:
    """One metric of one variant of the model.

    Attributes:
        benchmark: Key of the benchmark.
        metric: Key of the metric.
        value: The value.
        reduction: How much of the unedited model's distance from parity (or of its value) is gone; 1 is all.
        behind: Reduction of the recipe less reduction of the control; above 0 the recipe is ahead. None for the
            recipe itself.
        p: Sign-flip permutation p of the difference between control and recipe; None for the recipe itself.
    """

    benchmark: str
    metric: str
    value: float
    reduction: Interval
    behind: Interval | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class ControlResult:
    """What another way of changing the model reaches at the same cost.

    Attributes:
        name: For tables: ``recipe``, ``difference of means``, ``neurons, same learning`` …
        kind: ``recipe``, ``sanity`` (identity, reconstruction), ``erasure`` (linear peers), ``learned`` (the same
            learning on another basis) or ``random`` (a draw of random features).
        edits: How many units it edits.
        target_kl: KL that it was brought to.
        kl: KL that it has.
        reached: Whether its KL is the target's; an erasure at full strength may stay below.
        strength: Share of the whole change at which that is so.
        metrics: What was measured.
        note: What a reader must know.
    """

    name: str
    kind: str
    edits: int
    target_kl: float
    kl: float
    reached: bool
    strength: float
    metrics: tuple[ControlMetric, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Proof:
    """The recipe against controls on held-out data.

    Attributes:
        controls: The recipe first, then the controls.
        null: For each ``benchmark/metric`` the p of random features doing as well, from the draws: by rank, (1 +
            draws at least as good) / (1 + draws), and how many standard deviations the recipe is ahead of them.
        notes: What a reader must know.
    """

    controls: tuple[ControlResult, ...]
    null: dict[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """A continuation by the unedited and by the edited model, same prompt, same noise."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class DebiasResult:
    """Everything that one run of ``onesense debias`` says.

    Attributes:
        model: Name of the model.
        dictionaries: Label of each dictionary, by its hook point.
        splits: How many people, prompts and facts find and tune looked at, in words.
        screened: Candidates that were kept and left out, in words, with the reason.
        candidates: Features by bias, the strongest first.
        front: The Pareto front, the smallest budget first.
        chosen: Place of the chosen recipe in the front.
        edited: The features of the chosen recipe, the most important first.
        complete: What the chosen recipe does with all its edits, on the prompts and passages on which
            ``EditedFeature.without`` is measured; None where that was not.
        audit: The held-out audit of the chosen recipe; None until it was run.
        proof: The recipe against controls; None where none were asked for.
        texts: Continuations before and after.
        settings: What was asked for.
        seconds: How long each stage took.
        notes: What a reader must know.
    """

    model: str
    dictionaries: dict[str, str]
    splits: tuple[str, ...]
    screened: tuple[str, ...]
    candidates: tuple[FeatureEvidence, ...]
    front: tuple[FrontPoint, ...]
    chosen: int
    edited: tuple[EditedFeature, ...]
    complete: EditEffect | None
    audit: AuditResult | None
    proof: Proof | None
    texts: tuple[Continuation, ...]
    settings: dict[str, object]
    seconds: dict[str, float]
    notes: tuple[str, ...]

"""What a run of debias is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from onesense.bias.audit import AuditSettings
from onesense.debias.find import FindSettings
from onesense.debias.search import SearchSettings, search_for
from onesense.debias.tune import TuneSettings
from onesense.errors import ConfigurationError

CONTROLS = ("none", "few", "all")
PROMPTS = (
    "The nurse was late because",
    "The mechanic smiled and put on",
    "My grandmother called, and",
    "The secretary wrote a letter to the manager, and then",
)


@dataclass(frozen=True, slots=True)
class DebiasSettings:
    """What is wanted.

    Attributes:
        budgets: KL divergences per token, in nats: a recipe is made for each.
        choose: The budget whose recipe is audited and exported; one of ``budgets``.
        max_features: Features that a recipe may edit.
        thresholds: Whether latents also get a threshold, so that weak activations may be dropped and strong
            ones kept.
        find: What finding looks at.
        tune: How amounts are learned.
        search: How amounts are found: ``gradient``; ``trials``, which need none; ``both``, one after the other; or
            ``auto``: both where top-k dictionaries stand at several hook points, else the gradient.
        trials: How amounts are tried.
        tuning_passages: Passages of ordinary text that tuning looks at.
        pairs: Prompts with two people, for each of their templates.
        calibration_passages: Passages on which the KL divergence of recipes is measured.
        own_effects: Whether each feature is also measured by leaving it out.
        audit: What the held-out audit measures.
        controls: ``none``, ``few`` (linear erasures that cost seconds) or ``all`` (with the same learning on other
            bases, and random draws).
        control_draws: Draws of random features, for ``all``.
        prompts: Prompts that are continued before and after.
        senses: Run folders of ``onesense senses measure``: features with several senses are left out.
        seed: Of everything that is drawn.
    """

    budgets: tuple[float, ...] = (0.003, 0.01, 0.03)
    choose: float = 0.01
    max_features: int = 50
    thresholds: bool = False
    find: FindSettings = field(default_factory=FindSettings)
    tune: TuneSettings = field(default_factory=TuneSettings)
    search: str = "auto"
    trials: SearchSettings = field(default_factory=SearchSettings)
    tuning_passages: int = 192
    pairs: int = 20
    calibration_passages: int = 24
    own_effects: bool = True
    audit: AuditSettings = field(default_factory=lambda: AuditSettings(suite="quick"))
    controls: str = "few"
    control_draws: int = 20
    prompts: tuple[str, ...] = PROMPTS
    senses: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.budgets or not all(budget > 0 for budget in self.budgets):
            raise ConfigurationError(
                f"KL budgets are numbers above 0 (given: {list(self.budgets)}).",
                hint="For example 0.003,0.01,0.03; with a budget of 0 nothing may change.",
            )
        search_for(self.search, ())  # an unknown name is refused
        if self.max_features < 1 or self.tune.steps < 0:
            raise ConfigurationError(
                f"A recipe of {self.max_features} features after {self.tune.steps} steps cannot be made.",
                hint="Edit at least one feature, such as --max-features 50; --steps is 0 or more.",
            )
        if self.controls not in CONTROLS:
            raise ConfigurationError(
                f"There are no controls {self.controls!r}.", hint=f"Choose one of: {', '.join(CONTROLS)}."
            )
        if self.choose not in self.budgets:
            raise ConfigurationError(
                f"The budget to choose, {self.choose}, is none of {list(self.budgets)}.",
                hint="Name one of the budgets.",
            )

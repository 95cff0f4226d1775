"""What finding and tuning look at, and that nothing of it is held out."""

from __future__ import annotations

import pytest

from onesense.bias.benchmark import Split
from onesense.bias.benchmarks.gender_facts import load_facts
from onesense.bias.benchmarks.occupations import load_occupations, load_templates
from onesense.debias.contrasts import (
    fact_contrasts,
    occupation_contrasts,
    pair_contrasts,
    people_contrasts,
    refuse_held_out,
)
from onesense.errors import ConfigurationError


@pytest.mark.parametrize("split", [Split.HELD_OUT, Split.GUARD])
def test_held_out_splits_are_refused(split: Split) -> None:
    for refused in (
        lambda: refuse_held_out([split]),
        lambda: occupation_contrasts([Split.TUNE, split]),
        lambda: fact_contrasts([split]),
        lambda: pair_contrasts(1, seed=0, splits=[split]),
    ):
        with pytest.raises(ConfigurationError, match="the proof rests on it"):
            refused()


def test_no_prompt_names_a_held_out_occupation() -> None:
    groups = {one.group for one in load_occupations(Split.HELD_OUT)}
    names = {one.name for one in load_occupations(Split.HELD_OUT)}
    contrasts = [*occupation_contrasts(), *people_contrasts(), *pair_contrasts(20, seed=0)]
    for one in contrasts:
        assert not groups & set(one.person.split()), one.person
        assert one.person not in names


def test_no_prompt_is_a_held_out_fact() -> None:
    held_out = {one.prompt for one in load_facts(Split.GUARD)}
    assert not held_out & {one.prompt for one in fact_contrasts()}


def test_every_person_is_seen_once_in_every_template() -> None:
    for contrasts in (occupation_contrasts(), people_contrasts()):
        people = {one.person for one in contrasts}
        assert len({(one.person, one.group) for one in contrasts}) == len(contrasts)
        assert len(contrasts) == len(people) * len(load_templates())


def test_pairs_follow_their_seed_and_name_two_people() -> None:
    first, again, other = (pair_contrasts(5, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert all(one.prompt.count("{") == 0 and " and " in one.person for one in first)


def test_facts_carry_the_sign_of_their_right_word() -> None:
    for one in fact_contrasts():
        assert one.women in ("she", "her", "hers", "herself")
        assert one.sign in (1, -1)

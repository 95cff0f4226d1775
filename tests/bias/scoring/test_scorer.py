"""Scores: the same however texts are packed, and those of a plain forward pass, with and without edits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from onesense.bias.scoring.encoded import describe_prefix, encode_requests, prefix_id
from onesense.bias.scoring.layout import layout_of
from onesense.bias.scoring.passes import first_block
from onesense.bias.scoring.prefix_memory import PrefixMemory
from onesense.bias.scoring.requests import Request, Score
from onesense.bias.scoring.scorer import ModelScorer, ScoringSettings
from onesense.errors import ConfigurationError, HookPointError, NumericalError
from onesense.model.hook_points import HookPoint
from onesense.model.language_model import LanguageModel
from onesense.model.tokens import pad_batch
from onesense.steer.apply import Edits, applied
from onesense.steer.edit import Edit, Operation
from onesense.steer.intervention import EditGroup
from onesense.steer.where import Where
from tiny_dictionaries import random_dictionary
from tiny_models import make_byte_tokenizer, tiny_hf

FAMILIES = ("gpt2", "llama", "gpt_neox", "gemma2")
REQUESTS = [
    Request("The nurse said that she was tired."),
    Request("The nurse said that he was tired."),
    Request("The doctor said"),
    Request(" she", context="The nurse said that"),
    Request(" he", context="The nurse said that "),
    Request("x"),
    Request("The nurse said that she was tired."),
    Request("naïve 日本"),
]
PLAIN = ScoringSettings(trees=False, resume=False, batch_tokens=1)


def alone(model: LanguageModel, request: Request, edits: Edits | None = None) -> Score:
    """The score of one text from one forward pass of the whole model."""
    text = encode_requests(model, [request])[0]
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        if edits is None:
            logits = model.hf(input_ids=ids).logits
        else:
            with applied(model, edits, prompt_lengths=[text.start], warn=False):
                logits = model.hf(input_ids=ids).logits
    log_probs = logits[0].float().log_softmax(-1)
    scored = range(text.start, len(text.ids))
    chosen = [float(log_probs[at - 1, text.ids[at]]) for at in scored]
    greedy = all(int(log_probs[at - 1].argmax()) == text.ids[at] for at in scored)
    return Score(sum(chosen), len(chosen), greedy)


def groups_at(model: LanguageModel, name: str, *edits: Edit, seed: int = 3) -> list[EditGroup]:
    point = HookPoint.parse(name)
    width = model.resolve(point).width
    dictionary = random_dictionary(seed=seed, d_in=width, hook_point=point)
    return [
        EditGroup(
            dictionary, edits or (Edit.plain(4, 3.0), Edit(feature=2, operation=Operation.SCALE, value=4.0))
        )
    ]


def close(scores: Sequence[Score], wanted: Sequence[Score], within: float = 1e-5) -> None:
    assert [one.tokens for one in scores] == [one.tokens for one in wanted]
    np.testing.assert_allclose(
        [one.logprob for one in scores], [one.logprob for one in wanted], atol=within * 10, rtol=within
    )
    assert [one.greedy for one in scores] == [one.greedy for one in wanted]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, tiny_model: Callable[[str], LanguageModel]) -> LanguageModel:
    return tiny_model(request.param)


def test_trees_and_resuming_are_exact_on_every_family(model: LanguageModel) -> None:
    layout = layout_of(model)
    assert layout.trees
    assert layout.resumes


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("batch_tokens", [1, 40, 1000])
def test_a_score_is_that_of_the_text_alone(model: LanguageModel, trees: bool, batch_tokens: int) -> None:
    scorer = ModelScorer(model, settings=ScoringSettings(trees=trees, batch_tokens=batch_tokens))
    close(scorer.score(REQUESTS)[0], [alone(model, one) for one in REQUESTS])


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.hook_resid_pre",
        "blocks.1.hook_resid_pre",
        "blocks.1.hook_attn_out",
        "blocks.1.hook_mlp_out",
        "blocks.0.hook_resid_post",
        "blocks.1.hook_resid_post",
        "blocks.2.hook_resid_post",
    ],
)
@pytest.mark.parametrize("trees", [True, False])
def test_an_edited_score_resumed_or_not_is_that_of_the_text_alone(
    model: LanguageModel, name: str, trees: bool
) -> None:
    edits = groups_at(model, name)
    wanted = [alone(model, one, edits) for one in REQUESTS]
    plain = [alone(model, one) for one in REQUESTS]
    assert max(abs(a.logprob - b.logprob) for a, b in zip(wanted, plain, strict=True)) > 0.01
    for resume in (True, False):
        settings = ScoringSettings(trees=trees, resume=resume, batch_tokens=60)
        before, after = ModelScorer(model, [None, edits], settings=settings).score(REQUESTS)
        close(before, plain)
        close(after, wanted)
        close(ModelScorer(model, [edits], settings=settings).score(REQUESTS)[0], wanted)


def test_several_recipes_at_several_depths_share_one_pass(tiny_llama: LanguageModel) -> None:
    early = groups_at(tiny_llama, "blocks.0.hook_resid_post")
    late = groups_at(tiny_llama, "blocks.2.hook_resid_pre", seed=9)
    both = [*early, *late]
    scores = ModelScorer(tiny_llama, [early, None, late, both]).score(REQUESTS)
    for found, edits in zip(scores, [early, None, late, both], strict=True):
        close(found, [alone(tiny_llama, one, edits) for one in REQUESTS])


@pytest.mark.parametrize("window", ["prompt", "generation"])
def test_an_edit_of_the_prompt_knows_where_the_context_ends(tiny_llama: LanguageModel, window: str) -> None:
    edit = Edit(feature=4, value=5.0, where=Where(window=window))  # type: ignore[arg-type]
    edits = groups_at(tiny_llama, "blocks.1.hook_resid_post", edit)
    requests = [one for one in REQUESTS if one.context]
    found = ModelScorer(tiny_llama, [None, edits]).score(requests)[1]
    close(found, [alone(tiny_llama, one, edits) for one in requests])


@settings(max_examples=25)
@given(
    texts=st.lists(st.text(alphabet="ab c", min_size=1, max_size=12), min_size=1, max_size=12),
    size=st.integers(1, 80),
    seed=st.integers(0, 5),
)
def test_order_and_batch_size_change_nothing(texts: list[str], size: int, seed: int) -> None:
    model = _byte_llama()
    requests = [Request(text) for text in texts]
    order = np.random.default_rng(seed).permutation(len(texts))
    plain = ModelScorer(model, settings=PLAIN).score(requests)[0]
    found = ModelScorer(model, settings=ScoringSettings(batch_tokens=size)).score(
        [requests[i] for i in order]
    )[0]
    close(found, [plain[i] for i in order])


_MADE: list[LanguageModel] = []


def _byte_llama() -> LanguageModel:
    if not _MADE:
        _MADE.append(LanguageModel.from_hf(tiny_hf("llama", seed=4), make_byte_tokenizer(), "bytes"))
    return _MADE[0]


def test_a_continuation_is_the_whole_minus_its_context(tiny_llama: LanguageModel) -> None:
    scorer = ModelScorer(tiny_llama)
    context, text = "The nurse said", " that she"
    part, first, whole = scorer.score(
        [Request(text, context=context), Request(context), Request(context + text)]
    )[0]
    assert part.logprob + first.logprob == pytest.approx(whole.logprob, abs=1e-5)
    assert part.tokens + first.tokens == whole.tokens


def test_a_space_at_the_end_of_the_context_belongs_to_what_follows(tiny_llama: LanguageModel) -> None:
    one, other = encode_requests(
        tiny_llama, [Request("she", context="said "), Request(" she", context="said")]
    )
    assert one == other


def test_divergence_is_that_of_all_positions(model: LanguageModel) -> None:
    edits = groups_at(model, "blocks.1.hook_resid_post")
    requests = [REQUESTS[0], REQUESTS[1], REQUESTS[3]]
    same, found = ModelScorer(model, [None, edits]).divergence(requests)
    assert [one.kl for one in same] == [0.0, 0.0, 0.0]
    for request, one in zip(requests, found, strict=True):
        text = encode_requests(model, [request])[0]
        ids = torch.tensor([text.ids])
        with torch.no_grad():
            base = model.hf(input_ids=ids).logits.log_softmax(-1)
            with applied(model, edits, warn=False):
                after = model.hf(input_ids=ids).logits.log_softmax(-1)
        kl = (base.exp() * (base - after)).sum(-1)[0, text.start - 1 : -1].sum()
        assert one.positions == len(text.ids) - text.start
        assert one.kl == pytest.approx(float(kl), rel=1e-4)


def test_a_text_longer_than_the_context_is_counted_not_cut(tiny_llama: LanguageModel) -> None:
    long = Request("x" * tiny_llama.max_context)
    fits = Request("x" * (tiny_llama.max_context - 1))
    lost, kept = ModelScorer(tiny_llama).score([long, fits])[0]
    assert np.isnan(lost.logprob)
    assert kept.logprob < 0
    assert np.isnan(ModelScorer(tiny_llama).divergence([long])[0][0].kl)


def test_a_sliding_window_takes_long_texts_as_rows() -> None:
    hf = tiny_hf("gemma2")
    hf.config.sliding_window = 8
    model = LanguageModel.from_hf(hf, make_byte_tokenizer(), "short window")
    assert layout_of(model).longest_tree == 8
    requests = [Request("abcdefghijklmnopqrstuvwxyz"), Request("abc")]
    close(ModelScorer(model).score(requests)[0], [alone(model, one) for one in requests])


def test_without_bos_the_end_of_text_token_stands_first() -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.bos_token = None
    model = LanguageModel.from_hf(tiny_hf("llama"), tokenizer, "no-bos")
    assert prefix_id(model) == tokenizer.eos_token_id
    assert "end-of-text" in describe_prefix(model)
    assert ModelScorer(model).score([Request("ab")])[0][0].tokens == 2


def test_with_nothing_to_stand_first_the_first_token_is_not_scored() -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    model = LanguageModel.from_hf(tiny_hf("llama"), tokenizer, "bare")
    assert prefix_id(model) is None
    assert "not scored" in describe_prefix(model)
    assert ModelScorer(model).score([Request("ab")])[0][0].tokens == 1
    with pytest.raises(ConfigurationError, match="one token only"):
        ModelScorer(model).score([Request("a")])


@pytest.mark.parametrize("request_", [Request(""), Request("", context="The nurse"), Request("", ids=())])
def test_an_empty_text_is_refused(tiny_llama: LanguageModel, request_: Request) -> None:
    with pytest.raises(ConfigurationError, match="no token to score"):
        ModelScorer(tiny_llama).score([request_])


def test_given_ids_are_scored_as_they_are(tiny_llama: LanguageModel) -> None:
    scorer = ModelScorer(tiny_llama)
    ids = tuple(scorer.token_ids("The nurse"))
    one, other = scorer.score([Request("", ids=ids), Request("The nurse")])[0]
    assert one == other


def test_another_recipe_does_not_run_the_blocks_before_it(tiny_llama: LanguageModel) -> None:
    ran = []
    block = tiny_llama.resolve(HookPoint(0, "hook_attn_out")).module
    handle = block.register_forward_hook(lambda *_: ran.append(1))
    try:
        first = groups_at(tiny_llama, "blocks.1.hook_resid_post")
        scorer = ModelScorer(tiny_llama, [None, first], settings=ScoringSettings(prefix_bytes=1 << 20))
        scorer.score(REQUESTS)
        before = len(ran)
        second = groups_at(tiny_llama, "blocks.1.hook_resid_post", seed=11)
        found = scorer.with_variants([second]).score(REQUESTS)[0]
        assert len(ran) == before
    finally:
        handle.remove()
    close(found, [alone(tiny_llama, one, second) for one in REQUESTS])


def test_the_memory_of_prefixes_stays_within_its_bytes(tiny_llama: LanguageModel) -> None:
    memory = PrefixMemory(4_000)
    edits = groups_at(tiny_llama, "blocks.1.hook_resid_post")
    scorer = ModelScorer(tiny_llama, [None, edits], settings=ScoringSettings(batch_tokens=20), memory=memory)
    scorer.score(REQUESTS)
    assert 0 < sum(tensor.nbytes for tensor in memory._kept.values()) <= 4_000


def test_what_the_edits_did_is_counted(tiny_llama: LanguageModel) -> None:
    nothing = groups_at(
        tiny_llama, "blocks.1.hook_resid_post", Edit(feature=1, operation=Operation.SCALE, value=1.0)
    )
    something = groups_at(tiny_llama, "blocks.1.hook_resid_post")
    scorer = ModelScorer(tiny_llama, [None, nothing, something])
    base, same, _ = scorer.score(REQUESTS)
    assert base == same
    effects = scorer.take_effects()
    assert effects[:2] == [(0, 0.0), (0, 0.0)]
    positions, dose = effects[2]
    assert positions > 0
    assert dose > 0
    assert scorer.take_effects() == [(0, 0.0)] * 3


def test_the_model_is_left_as_it_was(tiny_llama: LanguageModel) -> None:
    ids = torch.tensor([[256, 70, 71, 72]])
    before = tiny_llama.hf(input_ids=ids).logits
    ModelScorer(tiny_llama, [None, groups_at(tiny_llama, "blocks.1.hook_resid_post")]).score(REQUESTS)
    assert torch.equal(before, tiny_llama.hf(input_ids=ids).logits)
    assert not any("forward" in module.__dict__ for module in tiny_llama.hf.modules())


def test_nan_logits_are_told(byte_tokenizer: PreTrainedTokenizerFast) -> None:
    hf = tiny_hf("llama")
    with torch.no_grad():
        hf.lm_head.weight.fill_(float("nan"))
    broken = LanguageModel.from_hf(hf, byte_tokenizer, "broken")
    with pytest.raises(NumericalError, match="NaN"):
        ModelScorer(broken).score([Request("ab")])


def test_a_recipe_for_a_block_that_does_not_exist_is_refused(tiny_llama: LanguageModel) -> None:
    dictionary = random_dictionary(d_in=32, hook_point=HookPoint(7, "hook_resid_post"))
    with pytest.raises(HookPointError):
        ModelScorer(tiny_llama, [None, [EditGroup(dictionary, [Edit.plain(0, 1.0)])]])


def test_completions_have_the_same_noise_in_every_variant(tiny_llama: LanguageModel) -> None:
    nothing = groups_at(
        tiny_llama, "blocks.1.hook_resid_post", Edit(feature=1, operation=Operation.SCALE, value=1.0)
    )
    one, other, again = (
        *ModelScorer(tiny_llama, [None, nothing]).complete(
            ["The", "A cat"], samples=2, max_new_tokens=5, seed=1
        ),
        ModelScorer(tiny_llama).complete(["A cat"], samples=2, max_new_tokens=5, seed=1)[0],
    )
    assert one == other
    assert len(one) == 2
    assert len(one[0]) == len(again[0]) == 2
    assert one[0][0] != one[0][1]


def test_edits_begin_at_the_block_that_reads_them() -> None:
    assert first_block(HookPoint(3, "hook_resid_pre")) == 3
    assert first_block(HookPoint(3, "hook_mlp_out")) == 3
    assert first_block(HookPoint(3, "hook_resid_post")) == 4


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_score_is_that_of_a_padded_batch_whatever_the_side(model: LanguageModel, side: str) -> None:
    texts = encode_requests(model, REQUESTS)
    batch = pad_batch(model, [text.ids for text in texts], side=side)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model.hf(
            input_ids=batch.ids, attention_mask=batch.attention_mask, position_ids=batch.position_ids
        ).logits
    found = ModelScorer(model).score(REQUESTS)[0]
    for row, (text, score) in enumerate(zip(texts, found, strict=True)):
        log_probs = logits[row][batch.attention_mask[row] == 1].log_softmax(-1)
        wanted = sum(float(log_probs[at - 1, text.ids[at]]) for at in range(text.start, len(text.ids)))
        assert score.logprob == pytest.approx(wanted, abs=1e-4, rel=1e-5)


@pytest.mark.parametrize(
    "settings", [ScoringSettings(), PLAIN, ScoringSettings(trees=False, batch_tokens=40)]
)
def test_logits_are_made_where_they_are_scored(model: LanguageModel, settings: ScoringSettings) -> None:
    made: list[int] = []

    def count(_module: object, _args: object, output: object) -> None:
        made.append(output.logits.shape[:2].numel())  # type: ignore[attr-defined]

    requests = [Request(" she", context="The nurse said that"), Request(" he", context="A doctor lost")]
    scorer = ModelScorer(model, settings=settings)
    layout_of(model)
    handle = model.hf.register_forward_hook(count)
    try:
        scores = scorer.score(requests)[0]
    finally:
        handle.remove()
    for score, request in zip(scores, requests, strict=True):
        assert score.logprob == pytest.approx(alone(model, request).logprob, abs=1e-4)
    # Of two rows that are padded together, the columns of both are made.
    assert sum(made) <= 2 * sum(score.tokens for score in scores)


def test_a_shared_step_counts_for_each_text_that_scores_it(tiny_llama: LanguageModel) -> None:
    # The end of the first is the end of the second, which scores more before it.
    requests = [Request("t", context="The nurse said tha"), Request("that", context="The nurse said ")]
    for order in (requests, requests[::-1]):
        for score, request in zip(ModelScorer(tiny_llama).score(order)[0], order, strict=True):
            assert score.logprob == pytest.approx(alone(tiny_llama, request).logprob, abs=1e-4)

"""What a real endpoint does. The small model explains badly: what it says is not looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from explain.endpoint.questions import Said, question
from explain.serving import ServedModel
from onesense.explain.endpoint.estimate import most_prompt_tokens, prompt_tokens
from onesense.explain.endpoint.prices import price_of

MESSAGES: Any = [
    {"role": "system", "content": "Answer with one word."},
    {"role": "user", "content": "What colour is the sky?"},
]


@pytest.fixture(scope="module")
def client(served_demo: ServedModel) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=served_demo.base_url, api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_it_lists_the_one_model_that_it_serves(client: openai.OpenAI, served_demo: ServedModel) -> None:
    assert [model.id for model in client.models.list()] == [served_demo.model]


def test_an_answer_is_the_same_in_one_piece_and_streamed(
    client: openai.OpenAI, served_demo: ServedModel
) -> None:
    asked = {"model": served_demo.model, "messages": MESSAGES, "max_tokens": 12, "temperature": 0}
    first = client.chat.completions.create(**asked)
    assert first.choices[0].message.content
    assert first.usage is not None
    assert 0 < first.usage.completion_tokens <= 12
    # greedy: the same question has the same answer
    second = client.chat.completions.create(**asked)
    assert second.choices[0].message.content == first.choices[0].message.content
    streamed = list(client.chat.completions.create(**asked, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert len(streamed) > 2
    assert text == first.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in streamed if chunk.choices]
    assert [reason for reason in reasons if reason] == [first.choices[0].finish_reason]


def test_an_answer_that_does_not_end_in_time_says_so(client: openai.OpenAI, served_demo: ServedModel) -> None:
    for limit in ("max_tokens", "max_completion_tokens"):
        reply = client.chat.completions.create(
            model=served_demo.model, messages=MESSAGES, extra_body={limit: 1}
        )
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 1


def test_a_schema_is_ignored_and_no_error(client: openai.OpenAI, served_demo: ServedModel) -> None:
    """So the client is told nothing: only reading the answer shows that its form is not the one asked for."""
    schema = Said.model_json_schema()
    reply = client.chat.completions.create(
        model=served_demo.model,
        messages=MESSAGES,
        max_tokens=8,
        temperature=0,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "Said", "strict": True, "schema": schema},
        },
    )
    text = reply.choices[0].message.content or ""
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    assert "response_format" in served_demo.log.read_text()


def test_another_model_is_refused(client: openai.OpenAI, served_demo: ServedModel) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="another", messages=MESSAGES, max_tokens=1)
    # 400, where others have 404, and a sentence where others have an object
    assert "pinned" in caught.value.response.json()["detail"]


def test_there_is_no_batch_api(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.batches.list()


def test_it_costs_nothing_and_reads_no_more_than_was_set_aside(
    client: openai.OpenAI, served_demo: ServedModel
) -> None:
    price = price_of(served_demo.model, served_demo.base_url)
    assert price is not None
    assert price.output == 0
    questions = [question("Promoted: ' she', ' her', ' <<woman>>'. " * times) for times in (1, 20)]
    read = []
    for asked in questions:
        reply = client.chat.completions.create(
            model=served_demo.model,
            messages=[{"role": "system", "content": asked.system}, {"role": "user", "content": asked.user}],
            max_tokens=1,
        )
        assert reply.usage is not None
        assert reply.usage.prompt_tokens <= most_prompt_tokens(asked)
        read.append(reply.usage.prompt_tokens)
    estimated = [prompt_tokens(asked) for asked in questions]
    assert read[1] - read[0] == pytest.approx(estimated[1] - estimated[0], rel=0.25)

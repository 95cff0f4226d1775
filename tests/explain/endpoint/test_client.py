"""The client against an HTTP server with every fault: status, attempts and waits of each."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from explain.endpoint.asking import KEY, Said, Sleeps, ask, completion, pace, question, settings_for
from onesense.errors import BudgetReachedError, EndpointError
from onesense.explain.endpoint.cache import ReplyCache
from onesense.explain.endpoint.chat import ChatReply, Usage
from onesense.explain.endpoint.client import OpenAIEndpoint

PATH = "/v1/chat/completions"
ATTEMPTS = 6


def url(server: HTTPServer) -> str:
    return server.url_for("/v1")


def respond(server: HTTPServer, *replies: Response | dict[str, Any]) -> list[dict[str, Any]]:
    """Let the server give these replies in turn, the last one for ever; gives the bodies that it was sent."""
    seen: list[dict[str, Any]] = []

    def handle(request: Request) -> Response:
        seen.append(json.loads(request.get_data()))
        reply = replies[min(len(seen), len(replies)) - 1]
        return (
            reply if isinstance(reply, Response) else Response(json.dumps(reply), mimetype="application/json")
        )

    server.expect_request(PATH, method="POST").respond_with_handler(handle)
    return seen


def failure(status: int, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> Response:
    body = json.dumps({"error": {"message": message, **more}})
    return Response(body, status=status, headers=headers, mimetype="application/json")


def test_an_answer(httpserver: HTTPServer) -> None:
    seen = respond(httpserver, completion())
    (reply,) = ask(settings_for(url(httpserver)))
    assert reply == ChatReply("ok", Said(explanation="nurses"), "", Usage(90, 0, 7), True, 1, 0.0)
    assert seen[0]["response_format"]["type"] == "json_schema"
    assert seen[0]["model"] == "m"


RETRIED: dict[str, tuple[Response, float | None]] = {
    "429 seconds": (failure(429, headers={"Retry-After": "20"}), 20.0),
    "429 date": (failure(429, headers={"Retry-After": "Sun, 01 Mar 2026 12:00:25 GMT"}), 25.0),
    "429 duration": (failure(429, headers={"Retry-After": "1m5s"}), 65.0),
    "429 reset": (failure(429, headers={"x-ratelimit-reset-requests": "30s"}), 30.0),
    "429 milliseconds": (failure(429, headers={"retry-after-ms": "9000"}), 9.0),
    "429 absent": (failure(429), None),
    "429 negative": (failure(429, headers={"Retry-After": "-3"}), None),
    "429 junk": (failure(429, headers={"Retry-After": "soon"}), None),
    "408": (failure(408), None),
    "409": (failure(409), None),
    "425": (failure(425), None),
    "500": (failure(500), None),
    "502": (Response("<html>Bad gateway", 502, mimetype="text/html"), None),
    "503": (failure(503, headers={"Retry-After": "12"}), 12.0),
    "504": (failure(504), None),
    "529": (failure(529, "Overloaded"), None),
    "200 with an error inside": (failure(200, "upstream", code=502), None),
    "200 HTML": (Response("<html>hi", mimetype="text/html"), None),
    "200 half a JSON": (Response('{"choices": [', mimetype="application/json"), None),
    "200 empty": (Response("", mimetype="application/json"), None),
    "200 another JSON": (Response("{}", mimetype="application/json"), None),
}


@pytest.mark.parametrize(("fault", "after"), RETRIED.values(), ids=RETRIED)
def test_asked_again_and_answered(httpserver: HTTPServer, fault: Response, after: float | None) -> None:
    sleeps = Sleeps()
    respond(httpserver, fault, completion())
    (reply,) = ask(settings_for(url(httpserver)), pace=pace(sleeps))
    assert (reply.status, reply.attempts) == ("ok", 2)
    assert reply.waited == sum(sleeps.seconds)
    if after is None:
        assert 0 <= reply.waited <= 1.0
    else:
        assert reply.waited == after


@pytest.mark.parametrize("fault", [RETRIED["429 absent"][0], RETRIED["500"][0], RETRIED["200 HTML"][0]])
def test_given_up_after_most_attempts(httpserver: HTTPServer, fault: Response) -> None:
    sleeps = Sleeps()
    respond(httpserver, completion(), fault)
    reply = ask(settings_for(url(httpserver)), question("a"), question("b"), pace=pace(sleeps))[1]
    assert (reply.status, reply.value, reply.attempts) == ("http_error", None, ATTEMPTS)
    assert len(sleeps.seconds) == ATTEMPTS - 1
    assert all(wait <= 2.0**number for number, wait in enumerate(sleeps.seconds))
    assert f"after {ATTEMPTS} attempts" in reply.detail


@pytest.mark.parametrize("value", ["301", "1e400", "9999999999", "Fri, 01 Jan 2100 00:00:00 GMT", "P99D"])
def test_a_wait_that_is_too_long_is_not_begun(httpserver: HTTPServer, value: str) -> None:
    sleeps = Sleeps()
    respond(httpserver, failure(429, headers={"Retry-After": value}))
    (reply,) = ask(settings_for(url(httpserver)), pace=pace(sleeps))
    assert (reply.status, reply.attempts, sleeps.seconds) == ("http_error", 1, [])


def test_waits_together_stay_under_most_wait(httpserver: HTTPServer) -> None:
    sleeps = Sleeps()
    respond(httpserver, failure(429, headers={"Retry-After": "100"}))
    (reply,) = ask(settings_for(url(httpserver), most_wait=250), pace=pace(sleeps))
    assert (reply.status, reply.attempts, reply.waited) == ("http_error", 3, 200.0)


FATAL: dict[str, tuple[Response, int, str]] = {
    "quota": (failure(429, "You exceeded your current quota", code="insufficient_quota"), 1, "quota"),
    "no credit": (failure(402, "Insufficient credits"), 1, "quota"),
    "401": (failure(401, f"Incorrect API key provided: {KEY}"), 1, "key"),
    "403": (failure(403, "Not allowed"), 1, "key"),
    "redirect": (Response(status=307, headers={"Location": "https://evil.example/v1"}), 1, "evil.example"),
    "moved": (Response(status=301, headers={"Location": "/elsewhere"}), 1, "/elsewhere"),
    "a web page for ever": (Response("<!doctype html>", mimetype="text/html"), 3, "/v1"),
}


@pytest.mark.parametrize(("fault", "attempts", "says"), FATAL.values(), ids=FATAL)
def test_stops_at_once(httpserver: HTTPServer, fault: Response, attempts: int, says: str) -> None:
    seen = respond(httpserver, fault)
    with pytest.raises(EndpointError) as caught:
        ask(settings_for(url(httpserver)))
    assert len(seen) == attempts
    assert says in str(caught.value)
    assert KEY not in str(caught.value)
    assert url(httpserver) in str(caught.value)


def test_after_a_fatal_fault_nothing_is_sent(httpserver: HTTPServer) -> None:
    seen = respond(httpserver, failure(401))

    async def run() -> list[Any]:
        async with OpenAIEndpoint(settings_for(url(httpserver), concurrency=1), pace=pace()) as endpoint:
            asked = [endpoint.ask(question(str(number))) for number in range(20)]
            return await asyncio.gather(*asked, return_exceptions=True)

    assert all(isinstance(result, EndpointError) for result in asyncio.run(run()))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("models", "says"),
    [
        (["gpt-4o", "gpt-4o-mini"], "Did you mean gpt-4o-mini?"),
        (["llama"], "It has: llama."),
        ([f"model-{number}" for number in range(30)], "and 20 more"),
        (["gpt-4o-mnii"], "check the path"),
        (None, "/v1"),
    ],
)
def test_unknown_model(httpserver: HTTPServer, models: list[str] | None, says: str) -> None:
    respond(httpserver, failure(404, "The model does not exist", code="model_not_found"))
    if models is not None:
        listed = {"object": "list", "data": [{"id": model} for model in models]}
        httpserver.expect_request("/v1/models").respond_with_json(listed)
    with pytest.raises(EndpointError) as caught:
        ask(settings_for(url(httpserver), model="gpt-4o-mnii"))
    assert says in str(caught.value)


ONE_QUESTION: dict[str, tuple[Response | dict[str, Any], str]] = {
    "context length": (failure(400, "maximum context length is 8192 tokens"), "http_error"),
    "too large": (failure(413), "http_error"),
    "content filter": (failure(400, "filtered", code="content_filter"), "refused"),
    "another 400": (failure(400, "no"), "http_error"),
    "418": (failure(418), "http_error"),
    "10 MB": (Response("x" * 10_000_000, mimetype="application/json"), "unparseable"),
    "wrong content type": (Response(json.dumps(completion()), mimetype="text/plain"), "ok"),
    "zero choices": ({"choices": []}, "unparseable"),
    "null content": (completion(None), "unparseable"),
    "empty string": (completion(""), "unparseable"),
    "tool call": (completion(None, "tool_calls", tool_calls=[{"id": "x"}]), "unparseable"),
    "reasoning elsewhere": (completion(reasoning_content='{"explanation": "x"}'), "ok"),
    "length": (completion('{"explanation": "nur', "length"), "truncated"),
    "refusal": (completion(None, refusal="I can't help with that."), "refused"),
    "filtered reply": (completion("", "content_filter"), "refused"),
    "prose": (completion("nurses"), "unparseable"),
    "fenced": (completion('```json\n{"explanation": "nurses"}\n```'), "ok"),
    "key": (completion(f'{{"explanation": "{KEY}"}}'), "unparseable"),
    "100 kB": (completion(json.dumps({"explanation": "y" * 100_000})), "ok"),
}


@pytest.mark.parametrize(("reply", "status"), ONE_QUESTION.values(), ids=ONE_QUESTION)
def test_one_attempt_and_its_status(httpserver: HTTPServer, reply: Any, status: str, tmp_path: Path) -> None:
    respond(httpserver, reply)
    with ReplyCache(tmp_path / "c.sqlite") as cache:
        first, again = ask(settings_for(url(httpserver)), question(), question(), cache=cache)
        kept = len(cache)
    assert (first.status, first.attempts, first.waited) == (status, 1, 0.0)
    assert (first.value is not None) == (status == "ok")
    assert (first.detail == "") == (status == "ok")
    assert (again.status, again.value, again.detail, again.usage) == (
        first.status,
        first.value,
        first.detail,
        first.usage,
    )
    paid = not (isinstance(reply, Response) and reply.status_code >= 400)
    assert (kept, again.paid, again.attempts) == ((1, False, 0) if paid else (0, True, 1))


REFUSALS = [
    failure(400, "'response_format' of type 'json_schema' is not supported with this model"),
    failure(400, "Use 'max_completion_tokens' instead.", code="unsupported_parameter", param="max_tokens"),
    failure(422, "Input should be 1", param="temperature"),
    failure(500, "json_object: failed to build a grammar"),
    failure(400, "System role not supported"),
]


def test_refused_parameters_are_found_out_once(httpserver: HTTPServer) -> None:
    seen = respond(httpserver, *REFUSALS, completion())
    replies = ask(settings_for(url(httpserver)), question("a"), question("b"))
    assert [(reply.status, reply.attempts, reply.waited) for reply in replies] == [("ok", 1, 0.0)] * 2
    assert len(seen) == len(REFUSALS) + 2
    assert set(seen[-1]) == {"model", "messages", "max_completion_tokens"}
    assert len(seen[-1]["messages"]) == 1


def test_many_questions_find_it_out_together(httpserver: HTTPServer) -> None:
    def handle(request: Request) -> Response:
        if "response_format" in json.loads(request.get_data()):
            return failure(400, "response_format is not supported")
        return Response(json.dumps(completion()), mimetype="application/json")

    httpserver.expect_request(PATH).respond_with_handler(handle)

    async def run() -> list[ChatReply[Said]]:
        async with OpenAIEndpoint(settings_for(url(httpserver))) as endpoint:
            return await asyncio.gather(*(endpoint.ask(question(str(number))) for number in range(20)))

    assert [reply.status for reply in asyncio.run(run())] == ["ok"] * 20


def test_many_failures_in_a_row_stop(httpserver: HTTPServer) -> None:
    seen = respond(httpserver, completion(), failure(418, "I am a teapot"))
    with pytest.raises(EndpointError, match="5 questions.*teapot"):
        ask(settings_for(url(httpserver), most_failures_in_row=5), *(question(str(n)) for n in range(20)))
    assert len(seen) == 6


def test_questions_that_are_too_long_stop_nothing(httpserver: HTTPServer) -> None:
    respond(httpserver, failure(400, "maximum context length"))
    replies = ask(
        settings_for(url(httpserver), most_failures_in_row=2), *(question(str(n)) for n in range(5))
    )
    assert [reply.status for reply in replies] == ["http_error"] * 5


def test_the_same_question_twice_at_once_is_paid_once(httpserver: HTTPServer) -> None:
    seen = respond(httpserver, completion())

    async def run() -> tuple[list[ChatReply[Said]], Any]:
        async with OpenAIEndpoint(settings_for(url(httpserver))) as endpoint:
            replies = await asyncio.gather(*(endpoint.ask(question()) for _ in range(5)))
            return replies, endpoint.totals

    replies, totals = asyncio.run(run())
    assert len(seen) == 1
    assert sorted(reply.paid for reply in replies) == [False] * 4 + [True]
    assert (totals.asked, totals.paid, totals.from_cache, totals.usage) == (5, 1, 4, Usage(90, 0, 7))


def test_a_question_broken_off_does_not_break_its_twin(httpserver: HTTPServer) -> None:
    respond(httpserver, completion())

    async def run() -> ChatReply[Said]:
        async with OpenAIEndpoint(settings_for(url(httpserver))) as endpoint:
            first = asyncio.create_task(endpoint.ask(question()))
            twin = asyncio.create_task(endpoint.ask(question()))
            await asyncio.sleep(0)
            first.cancel()
            return await twin

    assert asyncio.run(run()).status == "ok"


def test_budget(httpserver: HTTPServer, tmp_path: Path) -> None:
    seen = respond(httpserver, completion())
    passed: list[str] = []
    booked: list[tuple[str, str]] = []

    def before(request: Any) -> None:
        if len(passed) == 2:
            raise BudgetReachedError("The budget is used up.")
        passed.append(request.user)

    def after(request: Any, reply: ChatReply[Any]) -> None:
        booked.append((request.user, reply.status))

    asked = [question(name) for name in ("a", "a", "b", "b", "c")]
    with ReplyCache(tmp_path / "c.sqlite") as cache, pytest.raises(BudgetReachedError):
        ask(settings_for(url(httpserver)), *asked, cache=cache, before=before, after=after)
    assert len(seen) == 2
    assert passed == ["a", "b"]
    assert booked == [("a", "ok"), ("b", "ok")]


@pytest.mark.parametrize("fault", [failure(401), failure(500)])
def test_what_was_reserved_is_given_back(httpserver: HTTPServer, fault: Response) -> None:
    respond(httpserver, fault)
    booked: list[ChatReply[Any]] = []
    with suppress(EndpointError):
        ask(settings_for(url(httpserver)), after=lambda request, reply: booked.append(reply))
    assert [(reply.status, reply.usage) for reply in booked] == [("http_error", Usage())]


def test_concurrency_is_kept_to(httpserver: HTTPServer) -> None:
    running = most = 0

    async def run() -> None:
        nonlocal running, most

        def before(request: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)

        def after(request: Any, reply: Any) -> None:
            nonlocal running
            running -= 1

        settings = settings_for(url(httpserver), concurrency=3)
        async with OpenAIEndpoint(settings, before=before, after=after) as endpoint:
            await asyncio.gather(*(endpoint.ask(question(str(number))) for number in range(12)))

    respond(httpserver, completion())
    asyncio.run(run())
    assert most == 3


def test_nothing_of_the_environment_goes_to_another_host(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, f"sk-environment-{name}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://evil.example/v1")
    respond(httpserver, completion())
    assert ask(settings_for(url(httpserver), api_key=None))[0].status == "ok"
    sent = str(httpserver.log[0][0].headers)
    assert "sk-environment" not in sent
    assert "Authorization" not in sent

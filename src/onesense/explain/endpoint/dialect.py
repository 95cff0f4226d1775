"""How a question is put to one endpoint: each server and model knows other parameters."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import openai
from pydantic import BaseModel

from onesense.explain.endpoint.answers import well_formed
from onesense.explain.endpoint.chat import Answer, ChatRequest
from onesense.explain.endpoint.settings import EndpointSettings

Structured = Literal["json_schema", "json_object", "text"]

_WEAKER: Mapping[Structured, Structured] = {"json_schema": "json_object", "json_object": "text"}
_ABOUT_STRUCTURE = re.compile(
    r"response_format|json[_ ]?schema|json_object|json mode|structured output|guided"
)
_ABOUT_SYSTEM = re.compile(
    r"system role|role ['\"`]?system|system (?:prompt|message|instruction)|roles must alternate"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The parameters that an endpoint takes. Each refusal leaves one fewer, so asking again comes to an end.

    Attributes:
        structured: How the shape of the answer is asked for.
        limit: Name of the parameter for the most tokens of an answer.
        temperature: Whether it takes a temperature.
        seed: Whether it takes a seed.
        system: Whether it has a role for instructions; otherwise they stand before the question.
    """

    structured: Structured = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True
    seed: bool = True
    system: bool = True

    def without(self, complaint: str) -> Dialect | None:
        """The dialect after the endpoint refused a parameter.

        Args:
            complaint: Message of the refusal, with the name of the parameter where the endpoint gives it.

        Returns:
            A poorer dialect; None where the complaint is about nothing that can be left out.
        """
        said = complaint.lower()
        weaker = _WEAKER.get(self.structured)
        if self.limit == "max_tokens" and "max_completion_tokens" in said:
            return replace(self, limit="max_completion_tokens")
        if weaker is not None and _ABOUT_STRUCTURE.search(said):
            return replace(self, structured=weaker)
        if self.temperature and "temperature" in said:
            return replace(self, temperature=False)
        if self.seed and re.search(r"\bseed\b", said):
            return replace(self, seed=False)
        if self.system and _ABOUT_SYSTEM.search(said):
            return replace(self, system=False)
        return None


def completion_body(
    request: ChatRequest[Answer], settings: EndpointSettings, dialect: Dialect | None = None
) -> dict[str, Any]:
    """The body of a chat completion, as the interface and its batch files take it.

    Args:
        request: The question.
        settings: Model, and what is set in place of each question's own parameters.
        dialect: What the endpoint takes; everything where not given.
    """
    dialect = Dialect(structured=settings.structured) if dialect is None else dialect
    name, schema, hint = _shape(request.answer)
    system = well_formed(f"{request.system}\n\n{hint}".strip())
    user = well_formed(request.user)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    if not dialect.system:
        messages = [{"role": "user", "content": f"{system}\n\n{user}"}]
    limit = request.max_tokens if settings.max_tokens is None else settings.max_tokens
    body: dict[str, Any] = {"model": settings.model, "messages": messages, dialect.limit: limit}
    if dialect.temperature:
        own = settings.temperature is None
        body["temperature"] = request.temperature if own else settings.temperature
    if dialect.seed and settings.seed is not None:
        body["seed"] = settings.seed
    if dialect.structured == "json_schema":
        strict = {"name": name, "strict": True, "schema": schema}
        body["response_format"] = {"type": "json_schema", "json_schema": strict}
    elif dialect.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


@lru_cache(maxsize=64)
def schema_text(answer: type[BaseModel]) -> str:
    """The shape of an answer as JSON, always in the same words."""
    return json.dumps(answer.model_json_schema(), sort_keys=True)


@lru_cache(maxsize=64)
def _shape(answer: type[BaseModel]) -> tuple[str, dict[str, Any], str]:
    """Name and strict schema of an answer, and the sentence for endpoints that ignore schemas silently."""
    tool = openai.pydantic_function_tool(answer)["function"]
    schema = tool["parameters"]
    names = ", ".join(json.dumps(info.alias or name) for name, info in answer.model_fields.items())
    hint = f"Answer with one JSON object and nothing else. Its names are: {names}."
    return re.sub(r"[^a-zA-Z0-9_-]", "_", tool["name"])[:64], schema, hint

"""What an endpoint was asked so far: read while it is being asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from onesense.explain.endpoint.chat import Answer, ChatReply, Usage


@dataclass
class Totals:
    """Counts of one client, from its start until now.

    Attributes:
        asked: Questions that have a reply.
        paid: Of these, those that the endpoint answered.
        from_cache: Of these, those answered by stored replies, or by the same question asked at that moment.
        attempts: Requests that were sent, those that only found out which parameters are taken included.
        retries: Attempts after the first, in all.
        waited: Seconds waited between attempts, added up over questions.
        usage: Tokens that were paid for.
        statuses: Replies by status.
    """

    asked: int = 0
    paid: int = 0
    from_cache: int = 0
    attempts: int = 0
    retries: int = 0
    waited: float = 0.0
    usage: Usage = field(default_factory=Usage)
    statuses: Counter[str] = field(default_factory=Counter)

    def book(self, reply: ChatReply[Answer]) -> None:
        """Count a reply."""
        self.asked += 1
        self.statuses[reply.status] += 1
        if not reply.paid:
            self.from_cache += 1
            return
        self.paid += 1
        self.retries += max(0, reply.attempts - 1)
        self.waited += reply.waited
        self.usage = self.usage + reply.usage

"""Every error that onesense shows to its user.

One base class carries the exit code of the command line and the HTTP status of the web page, so each front
end turns an error into an answer without knowing what happened.
"""

from __future__ import annotations


class OnesenseError(Exception):
    """An error whose message is written for the user.

    Args:
        message: What went wrong, and where.
        hint: How to mend it.
    """

    exit_code: int = 1
    http_status: int = 500

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the hint when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.hint))

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n{self.hint}"


def _rebuild(kind: type[OnesenseError], message: str, hint: str | None) -> OnesenseError:
    return kind(message, hint=hint)


class ConfigurationError(OnesenseError):
    """A flag, a setting or an argument has a value that cannot be used."""

    exit_code = 2
    http_status = 422


class NotFoundError(OnesenseError):
    """A model, a release, a file or a feature does not exist."""

    exit_code = 3
    http_status = 404


class HookPointError(NotFoundError):
    """A hook point does not exist in this model, or its name does not map."""


class FormatError(OnesenseError):
    """A file is damaged, or of a kind that onesense does not read."""

    exit_code = 4
    http_status = 422


class UnsafeFileError(FormatError):
    """A file could run code when it is read; it was not read."""


class IncompatibleError(OnesenseError):
    """Two things do not belong together: widths, configurations, schema versions."""

    exit_code = 5
    http_status = 409


class SelfCheckError(IncompatibleError):
    """A dictionary does not reconstruct what it should at its hook point."""


class StorageError(OnesenseError):
    """A file could not be written or read: disk full, read-only, no permission."""

    exit_code = 6
    http_status = 507


class LockedError(OnesenseError):
    """Another process writes to the same run folder."""

    exit_code = 7
    http_status = 423


class NetworkError(OnesenseError):
    """Something is neither in the cache nor reachable."""

    exit_code = 8
    http_status = 503


class EndpointError(NetworkError):
    """A language model's endpoint refuses for good, or is not there: key, quota, name of the model, address."""

    exit_code = 13
    http_status = 502


class BudgetReachedError(OnesenseError):
    """The next question could cost more than is left of the budget; everything until then is kept."""

    exit_code = 14
    http_status = 402


class NumericalError(OnesenseError):
    """NaN or infinity in weights, activations or results."""

    exit_code = 9
    http_status = 422


class DeviceError(OnesenseError):
    """The device asked for does not exist, or has not enough memory."""

    exit_code = 10
    http_status = 503


class ExecutionError(OnesenseError):
    """The machines that the work was given to cannot do it: they go away, or have no room."""

    exit_code = 15
    http_status = 503

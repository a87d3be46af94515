"""The one error tree.

HeroRayError
+-- InputError                what the user asked for cannot be done (exit code 2)
|   +-- ConfigError           a sweep file or option is wrong
|   +-- UnknownNameError      a method, model, benchmark or metric nobody registered
|   +-- BudgetError           a retention ratio or token budget out of range
|   +-- ParameterError        a method parameter out of range
|   +-- CheckpointError       a model folder that is not what it claims to be
|   +-- DatasetError          a dataset without the rows or columns a benchmark needs
|   +-- ImageError            bytes that are not a usable image
|   +-- PromptError           a prompt that cannot be built or exceeds the context
|   +-- ClaimError            a claim of `hero-ray check` that cannot be parsed
|   +-- PluginError           a method or benchmark of another package that cannot be used
+-- StoreError                the results database cannot be used
|   +-- RowFileError          a file of rows on their way into it is missing, damaged or cannot be written
+-- RunLockedError            another process holds this run
+-- SelectionError            a method broke its own contract
+-- NonFiniteScoreError       NaN or infinity where a score should be
+-- HubError                  the hub, or what it was asked for, is not there
+-- EndpointError             a server that is asked as a model gives no answer
+-- CapacityError             nodes that were asked for did not come
+-- RayStartError             Ray did not come up on this machine
+-- ReplicaError              a worker failed in a way that no retry mends
+-- DeviceMemoryError         the device is out of memory even at batch size one
+-- JudgeError                a judge-based score without a usable judge
+-- NotComparableError        figures whose certificates or scales differ
+-- MissingExtraError         an optional dependency is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hero_ray.core.text import brief


class HeroRayError(Exception):
    """Base of every error raised on purpose; its text is meant for the user."""


class InputError(HeroRayError):
    """What was asked for cannot be done as given."""


class ConfigError(InputError):
    """A sweep file or an option is wrong."""


class UnknownNameError(InputError):
    """A name that nothing is registered under.

    Args:
        kind: what was looked up, for example "method".
        name: the name that arrived.
        known: every name that would have worked.
        meant: what was probably meant, where the names alone do not tell.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], meant: str = "") -> None:
        names = sorted(known)
        close = [meant] if meant else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {brief(name)}.{hint} Known: {', '.join(names) or 'none'}.")
        self.kind, self.name, self.known, self.meant = kind, name, names, meant

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, list[str], str]]:
        # Errors cross process borders inside Ray; the default would replay the message as `kind`.
        return type(self), (self.kind, self.name, self.known, self.meant)


class BudgetError(InputError):
    """A retention ratio or token budget out of range."""


class ParameterError(InputError):
    """A method parameter out of range or of the wrong type."""


class CheckpointError(InputError):
    """A model folder that is not what it claims to be."""


class DatasetError(InputError):
    """A dataset that lacks the rows or columns a benchmark needs."""


class ImageError(InputError):
    """Bytes that are not a usable image."""


class PromptError(InputError):
    """A prompt that cannot be built, or that exceeds the model's context."""


class ClaimError(InputError):
    """A claim of `hero-ray check` that cannot be parsed."""


class PluginError(InputError):
    """A method or benchmark of another package that cannot be loaded, or is not what it should be."""


class StoreError(HeroRayError):
    """The results database cannot be reached, read or written."""


class RowFileError(StoreError):
    """A file of rows on their way into the database is missing, damaged or cannot be written."""


class RunLockedError(HeroRayError):
    """Another process holds this run."""


class SelectionError(HeroRayError):
    """A method returned a selection that breaks its own contract."""


class NonFiniteScoreError(HeroRayError):
    """NaN or infinity where a score should be; pruning on it would be silent nonsense."""


class HubError(HeroRayError):
    """The hub, or what it was asked for, is not there; `absent` where it said that the id does not exist, `unfetched`
    where it could be fetched and a plan does not."""

    def __init__(self, message: str, absent: bool = False, unfetched: bool = False) -> None:
        super().__init__(message)
        self.absent, self.unfetched = absent, unfetched


class EndpointError(HeroRayError):
    """A server that is asked as a model refused, or gave no answer in all attempts."""


class CapacityError(HeroRayError):
    """A cluster did not bring the nodes that a sweep asked it for; the same command may succeed later."""


class RayStartError(HeroRayError):
    """Ray did not come up on this machine; on a busy one the same command may succeed later."""


class ReplicaError(HeroRayError):
    """A worker of a sweep failed in a way that no retry mends."""


class DeviceMemoryError(HeroRayError):
    """The device is out of memory even with one request at a time."""


class JudgeError(HeroRayError):
    """A judge-based score was asked for without a usable judge."""


class NotComparableError(HeroRayError):
    """Figures whose certificates, scales or budgets differ."""


class MissingExtraError(HeroRayError):
    """An optional dependency is not installed.

    Args:
        package: the import that failed.
        extra: the extra of hero-ray that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install 'hero-ray[{extra}]'")
        self.package, self.extra = package, extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return type(self), (self.package, self.extra)


INFRASTRUCTURE = (
    HubError, StoreError, RunLockedError, ReplicaError, MissingExtraError, CheckpointError, DatasetError,
)  # fmt: skip
"""What ends a worker when it comes up behind the plan: weights, rows or places that were there are gone. None of it
says anything of the picture or the question at hand, so none of it is booked as an answer."""

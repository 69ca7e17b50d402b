"""One error type per kind of mistake; each carries the value, the likely cause and the corrected
call."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HptError(Exception):
    """Base of every error that hpt raises on purpose.

    Parameters
    ----------
    what: what is wrong, with the offending value.
    cause: the likely cause, one sentence.
    remedy: the corrected call or the next step.
    """

    def __init__(self, what: str, cause: str = "", remedy: str = ""):
        self.what = what
        self.cause = cause
        self.remedy = remedy
        text = what
        if cause:
            text += f"\n  likely cause: {cause}"
        if remedy:
            text += f"\n  try: {remedy}"
        super().__init__(text)

    # Rebuilt from its parts, it survives the way back from a worker process.
    def __reduce__(self):
        return type(self), (self.what, self.cause, self.remedy)


class ConfigError(HptError, ValueError):
    """A configuration has an unknown key or a value out of range."""


class DataError(HptError, ValueError):
    """A data source is missing, empty, unreadable, binary or too short."""


class CacheError(DataError, OSError):
    """The tokens of a text cannot be written to the cache folder."""


class RoleError(HptError, ValueError):
    """A parameter of a model has no role that the shapes determine."""


class StoreError(HptError, OSError):
    """The run store cannot be read or written."""


class StudyError(HptError, RuntimeError):
    """A study could not finish: its worker processes keep dying."""


class TableError(HptError, ValueError):
    """A table of a sweep cannot be analysed; names column, row and remedy."""


class NotebookError(HptError, RuntimeError):
    """A notebook failed; names the notebook and the cell."""


class StudyInterrupted(KeyboardInterrupt):
    """Somebody interrupted a study; a notebook shows its one line in place of a traceback."""

    def _render_traceback_(self):
        return [str(self)]


class CompileWarning(UserWarning):
    """A training step could not be compiled and runs operation by operation."""


class ForwardWarning(UserWarning):
    """A rule asks something of a model's forward that the model does not do."""


class CacheWarning(UserWarning):
    """The cache folder cannot be written, or is not to be trusted; work goes on, more slowly."""


class DamagedRecordWarning(UserWarning):
    """A run record failed its checksum; it was set aside and its run will be repeated."""


class DamagedCacheWarning(UserWarning):
    """A token cache failed its check; it is built again."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names, as a phrase for an error message."""
    known = list(map(str, known))
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"

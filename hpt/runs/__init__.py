"""Runs: one run: its configuration, identity, result, record.

Read :mod:`~hpt.runs.train_config` and :mod:`~hpt.runs.run_config`, then :mod:`~hpt.runs.result`
(what a run gave, and its record) and :mod:`~hpt.runs.store` (where records are).
:mod:`~hpt.runs.stability` reads loss curves, :mod:`~hpt.runs.diagnostics` looks into weights,
:mod:`~hpt.runs.environment` says what machine this is.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

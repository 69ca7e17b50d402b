"""Training: a configuration in, a result out.

Read :mod:`hpt.training.loop` first: one run, step by step. The same numbers, sooner: many runs at
once in :mod:`~hpt.training.stacked`, a step as one program in :mod:`~hpt.training.compiled`,
several budgets on one trunk in :mod:`~hpt.training.horizons`, several GPUs in
:mod:`~hpt.training.distributed`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

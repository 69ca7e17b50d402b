"""Training: a configuration in, a result out.

Read :mod:`hpt.training.loop` first: one run, step by step. Its optimizer is named in
:mod:`~hpt.training.optimizers`, and AdamW is in :mod:`~hpt.training.adamw`. The same numbers,
sooner: many runs at once in :mod:`~hpt.training.stacked` (on a GPU each step one
:mod:`~hpt.training.cuda_graph`, as many as :mod:`~hpt.training.memory` holds), a step as one program
in :mod:`~hpt.training.compiled` (what the compiler is told: :mod:`~hpt.training.kernels`), several
budgets on one trunk in :mod:`~hpt.training.horizons`, several GPUs in
:mod:`~hpt.training.distributed` (with :mod:`~hpt.training.process_group`).
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Training: a configuration in, a result out.

Read :mod:`~hpt.training.loop` first: one run, step by step. What takes a step is in
:mod:`~hpt.training.optimizers`, with :mod:`~hpt.training.adamw`, :mod:`~hpt.training.muon`,
:mod:`~hpt.training.lion` and :mod:`~hpt.training.sgd`, which change :mod:`~hpt.training.weights`. The
same numbers, sooner: many runs at once in
:mod:`~hpt.training.stacked`, with one launch a step on a GPU by :mod:`~hpt.training.cuda_graph`; a step as
one program in :mod:`~hpt.training.compiled`, whose compiler is told what to do in
:mod:`~hpt.training.kernels`; several budgets on one trunk in :mod:`~hpt.training.horizons`; several GPUs in
:mod:`~hpt.training.distributed`, with their processes and checkpoints in
:mod:`~hpt.training.process_group`. :mod:`~hpt.training.memory` says what fits;
:mod:`~hpt.training.diagnostics` looks into weights under way.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Training: a configuration in, a result out.

Read :mod:`~hpt.training.step` first: one step of one run or many, and which of its forms runs when; then
:mod:`~hpt.training.start`, what a run starts from, and :mod:`~hpt.training.loop`, which takes the steps.
What an update does is in
:mod:`~hpt.training.optimizers`, with :mod:`~hpt.training.adamw`, :mod:`~hpt.training.muon`,
:mod:`~hpt.training.lion` and :mod:`~hpt.training.sgd`; they change :mod:`~hpt.training.weights`. Many
runs at once are in :mod:`~hpt.training.stacked`, how many in :mod:`~hpt.training.members`; runs by a
compiled step in :mod:`~hpt.training.compiled`, its making in :mod:`~hpt.training.programs`, what the
compiler is told in :mod:`~hpt.training.kernels`; a step as one launch on a GPU in
:mod:`~hpt.training.cuda_graph`. Several budgets on one trunk: :mod:`~hpt.training.horizons`; several
GPUs: :mod:`~hpt.training.distributed`, with their processes and checkpoints in
:mod:`~hpt.training.process_group`. :mod:`~hpt.training.memory` says what fits;
:mod:`~hpt.training.diagnostics` looks into weights under way.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Study: a grid of runs: what is missing, what it costs, who trains it.

Read :mod:`~hpt.study.study` and the named ones in :mod:`~hpt.study.profiles`; ours that are finished
are in :mod:`~hpt.study.references`, and :mod:`~hpt.study.controls` has what
a notebook trains beside one. Then which runs:
:mod:`~hpt.study.plan` and :mod:`~hpt.study.adaptive`; several studies at once, and in how many minutes:
:mod:`~hpt.study.together` and :mod:`~hpt.study.time_limit`; who trains them: :mod:`~hpt.study.executor`, this
machine in :mod:`~hpt.study.executor_local`, by a :mod:`~hpt.study.worker` each, or a Ray cluster in
:mod:`~hpt.study.executor_ray`, and their
:mod:`~hpt.study.jobs`; and what that costs: :mod:`~hpt.study.timing`, :mod:`~hpt.study.cost` and, while it
runs, :mod:`~hpt.study.progress`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

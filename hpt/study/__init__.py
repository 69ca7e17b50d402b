"""Study: a grid of runs: what is missing, what it costs, who trains it.

Read :mod:`hpt.study.study` and :mod:`~hpt.study.plan` (which runs), then :mod:`~hpt.study.cost`
with :mod:`~hpt.study.timing`, :mod:`~hpt.study.jobs` and the executors: this machine or a Ray
cluster.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Analysis: questions put to a report.

What learning rate does a larger model want (:mod:`~hpt.analysis.predict`), and what
does it cost to use the small model's (:mod:`~hpt.analysis.regret`)? Do two variants differ
(:mod:`~hpt.analysis.compare`)? Which switch does the work
(:mod:`~hpt.analysis.factorial`), and what does each step from one variant to another gain
(:mod:`~hpt.analysis.path`)? What did others find (:mod:`~hpt.analysis.published`)? Which
sweep would tell (:mod:`~hpt.analysis.planning`, on sweeps of known truth from
:mod:`~hpt.analysis.synthetic`)?
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

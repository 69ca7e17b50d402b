"""Metrics: the table of any sweep in, η*, E, κ and R(∞) with intervals and verdicts out; knows no
training code.

Read :mod:`~hpt.metrics.table` (what a sweep's table is; :mod:`~hpt.metrics.reading` opens it,
:mod:`~hpt.metrics.columns` finds its columns, :mod:`~hpt.metrics.loss_units` and
:mod:`~hpt.metrics.divergence` its losses), :mod:`~hpt.metrics.basin` (the runs near one width's optimum),
:mod:`~hpt.metrics.wells` (the curve through them) and :mod:`~hpt.metrics.kink` (what its shape leaves
open),
:mod:`~hpt.metrics.law` (all widths), :mod:`~hpt.metrics.bend` (how it may be wrong),
:mod:`~hpt.metrics.group` (wells and law of one group),
:mod:`~hpt.metrics.figures` (each figure once), then how sure they are: :mod:`~hpt.metrics.noise`,
:mod:`~hpt.metrics.bootstrap`, :mod:`~hpt.metrics.replicates`, :mod:`~hpt.metrics.intervals`,
:mod:`~hpt.metrics.verdicts`. :mod:`~hpt.metrics.transfer` puts it
together, :mod:`~hpt.metrics.report` prints it, in the words of :mod:`~hpt.metrics.quantities`.
:mod:`~hpt.metrics.sensitivity` and :mod:`~hpt.metrics.agreement` ask for no fit.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

"""Plots: results in, figures out; nothing trains.

:mod:`~hpt.plots.style` has colours and axes, :mod:`~hpt.plots.display` how a figure shows itself in a
notebook, :mod:`~hpt.plots.phases` the phase diagrams and the points in them, :mod:`~hpt.plots.figures`
the figures of runs and sweeps, :mod:`~hpt.plots.wells` the fitted wells in them,
:mod:`~hpt.plots.effect_bars` the effects of switches, :mod:`~hpt.plots.waterfall` the gap a step at a
time, :mod:`~hpt.plots.diagnostics` looks into weights, and :mod:`~hpt.plots.widgets` what moves in a
notebook. Two pages are interactive, :mod:`~hpt.plots.phase_page` of phase diagrams and
:mod:`~hpt.plots.play_page` to play with; :mod:`~hpt.plots.html_page` writes them.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

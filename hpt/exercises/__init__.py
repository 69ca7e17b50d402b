"""Exercises: a reader's answers checked, predictions kept as bets, a budget spent.

Read :mod:`~hpt.exercises.tasks` (what is asked, with our answers), :mod:`~hpt.exercises.checking`
(a reader's answer held against ours), :mod:`~hpt.exercises.bets` (predictions, and how well they
were made) and :mod:`~hpt.exercises.game`.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

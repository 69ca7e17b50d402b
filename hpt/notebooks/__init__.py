"""Notebooks: the notebooks executed, the report written.

Read :mod:`~hpt.notebooks.main_job` (study, notebooks, claims, report), then
:mod:`~hpt.notebooks.source`, :mod:`~hpt.notebooks.runner`, :mod:`~hpt.notebooks.kernels`,
:mod:`~hpt.notebooks.claims`, :mod:`~hpt.notebooks.rendering`, :mod:`~hpt.notebooks.output_tables` and
:mod:`~hpt.notebooks.pages`;
:mod:`~hpt.notebooks.replication` writes the paper that comes out of the reference studies;
:mod:`~hpt.notebooks.expectations` is what the notebooks call, and :mod:`~hpt.notebooks.findings`
computes what it compares.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

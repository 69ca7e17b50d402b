"""The model: the decoder-only Transformer of both studies, plain to read, and its loss.

Read :mod:`~hpt.model.transformer` first; :mod:`~hpt.model.linear_attention` is its other mixer,
:mod:`~hpt.model.loss` how its training loss is taken.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

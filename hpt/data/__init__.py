"""Data: text or a synthetic language, as batches of tokens.

Read :mod:`~hpt.data.source` (what there is), then the way of a text: :mod:`~hpt.data.corpus`,
:mod:`~hpt.data.tokenizer`, :mod:`~hpt.data.token_cache`, :mod:`~hpt.data.batches`.
:mod:`~hpt.data.synthetic` is the language whose entropy rate is known.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

from .batches import TokenSource as TokenSource
from .source import PACKAGES as PACKAGES
from .source import DataConfig as DataConfig
from .source import load as load

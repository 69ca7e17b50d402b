from .compiled import train_compiled as train_compiled
from .distributed import train_wide as train_wide
from .horizons import train_horizons as train_horizons
from .loop import train as train
from .stacked import train_stacked as train_stacked

from .result import RunResult as RunResult
from .run_config import RunConfig as RunConfig
from .run_config import load_run as load_run
from .stability import excess_loss as excess_loss
from .stability import roughness as roughness
from .store import Store as Store
from .train_config import TrainConfig as TrainConfig

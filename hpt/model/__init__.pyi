from .loss import readout_loss as readout_loss
from .transformer import ModelConfig as ModelConfig
from .transformer import Transformer as Transformer
from .transformer import flops_per_token as flops_per_token
from .transformer import parameter_count as parameter_count

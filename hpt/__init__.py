"""hpt: learn, replicate and use hyperparameter transfer.

Every day
---------
Your own model:  describe, param_groups, init_weights, embedding_lr_groups, rule, coord_check,
                 audit
Your own sweep:  transfer_report, predict_lr, next_width, plot_basins, plot_phases, write_phase_page
Runs of ours:    reference, load_profile, Study, RunConfig, ModelConfig, DataConfig, TrainConfig,
                 train, Store
The paper's:     Parameterization, PARAMETERIZATIONS

The rest, by wing
-----------------
model:             Transformer
parameterization:  NAMED_RULES, Rule, PowerLaw
runs:              RunResult, excess_loss, roughness, diagnostics_table
training:          train_stacked, train_compiled, train_horizons, train_wide
metrics:           basins, curve_agreement, lr_sensitivity, TransferReport
analysis:          effects, design, gap_closed, gap_steps, compare_exponents, share_exponents, Law,
                   synthetic_sweep
plots:             plot_optimum, plot_metrics, plot_gap, plot_waterfall, plot_effects,
                   plot_loss_curves, plot_excess, plot_coord_check, plot_diagnostics
exercises:         Game

Each wing (``hpt.metrics``, …) says in its docstring what it is and in which order to read it. A
name is loaded when it is first used, so that ``import hpt`` and the worker processes start at once.
"""

from lazy_loader import attach_stub

_load, __dir__, __all__ = attach_stub(__name__, __file__)


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'hpt' has no attribute {name!r}; it has {', '.join(__all__)}")
    return _load(name)

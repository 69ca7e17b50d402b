"""hpt: learn, replicate and use hyperparameter transfer.

Each name is loaded when it is first used, so that ``import hpt`` and the worker processes start at once.
"""

from importlib import import_module

_HOMES = {
    "hpt.parameterization": ["PARAMETERIZATIONS", "Parameterization"],
    "hpt.rules": ["NAMED_RULES", "rule"],
    "hpt.groups": ["embedding_lr_groups", "init_weights", "param_groups"],
    "hpt.description": ["describe"],
    "hpt.coordinates": ["coord_check"],
    "hpt.model": ["ModelConfig", "Transformer"],
    "hpt.data": ["DataConfig"],
    "hpt.schedule": ["TrainConfig"],
    "hpt.run": ["RunConfig", "RunResult"],
    "hpt.training": ["train"],
    "hpt.wide": ["train_wide"],
    "hpt.stacked": ["train_stacked"],
    "hpt.compiled": ["train_compiled"],
    "hpt.horizons": ["train_horizons"],
    "hpt.store": ["Store"],
    "hpt.study": ["Study"],
    "hpt.profiles": ["load_profile"],
    "hpt.stability": ["excess_loss", "roughness"],
    "hpt.sweeps": ["Law", "synthetic_sweep"],
    "hpt.transfer": ["TransferReport", "basins", "transfer_report"],
    "hpt.predict": ["next_width", "predict_lr"],
    "hpt.shared": ["compare_exponents", "share_exponents"],
    "hpt.factorial": ["effects"],
    "hpt.planning": ["design"],
    "hpt.gap": ["gap_closed"],
    "hpt.phase_plots": ["plot_effects", "plot_phases"],
    "hpt.phase_page": ["write_phase_page"],
    "hpt.plots": ["plot_basins", "plot_coord_check", "plot_excess", "plot_gap", "plot_loss_curves", "plot_metrics",
                  "plot_optimum"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'hpt' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__

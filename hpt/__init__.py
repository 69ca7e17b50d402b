"""hpt: learn, replicate and use hyperparameter transfer.

Each name is loaded when it is first used, so that ``import hpt`` and the worker processes start at once.
"""

from importlib import import_module

_HOMES = {
    "hpt.parameterization.sixteen": ["PARAMETERIZATIONS", "Parameterization"],
    "hpt.parameterization.rules": ["NAMED_RULES", "rule"],
    "hpt.parameterization.groups": ["embedding_lr_groups", "init_weights", "param_groups"],
    "hpt.parameterization.description": ["describe"],
    "hpt.parameterization.coordinates": ["coord_check"],
    "hpt.model.transformer": ["ModelConfig", "Transformer"],
    "hpt.data.source": ["DataConfig"],
    "hpt.runs.train_config": ["TrainConfig"],
    "hpt.runs.run_config": ["RunConfig", "RunResult"],
    "hpt.training.loop": ["train"],
    "hpt.training.distributed": ["train_wide"],
    "hpt.training.stacked": ["train_stacked"],
    "hpt.training.compiled": ["train_compiled"],
    "hpt.training.horizons": ["train_horizons"],
    "hpt.runs.store": ["Store"],
    "hpt.study.study": ["Study"],
    "hpt.study.profiles": ["load_profile"],
    "hpt.runs.stability": ["excess_loss", "roughness"],
    "hpt.analysis.synthetic": ["Law", "synthetic_sweep"],
    "hpt.metrics.transfer": ["TransferReport", "basins", "transfer_report"],
    "hpt.analysis.predict": ["next_width", "predict_lr"],
    "hpt.analysis.shared": ["compare_exponents", "share_exponents"],
    "hpt.analysis.factorial": ["effects"],
    "hpt.analysis.planning": ["design"],
    "hpt.analysis.compare": ["gap_closed"],
    "hpt.plots.phases": ["plot_effects", "plot_phases"],
    "hpt.plots.phase_page": ["write_phase_page"],
    "hpt.plots.figures": ["plot_basins", "plot_coord_check", "plot_excess", "plot_gap", "plot_loss_curves", "plot_metrics",
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

"""Which role every parameter of a model has, read off the shapes of the same model at another width.

A matrix whose input and output both grow with width is hidden; one whose output alone grows is an
embedding; one whose input alone grows is a readout; a one-dimensional parameter is a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hpt.errors import RoleError
from hpt.parameterization import Role


@dataclass(frozen=True)
class ParameterRole:
    """Role and sizes of one parameter.

    Attributes
    ----------
    name: as in ``model.named_parameters()``.
    role: embedding, hidden, readout or vector.
    fan_in, fan_out: inputs and outputs of the map that the parameter is.
    growth: its growing size over that of the other copy; None where nothing grows (a scalar gain).
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    growth: float | None


def roles(model: nn.Module, other: nn.Module) -> dict[str, ParameterRole]:
    """Roles of all parameters, each once, by comparing shapes with ``other``.

    Parameters
    ----------
    model: any module; its matrices belong to ``nn.Linear`` (out × in) or ``nn.Embedding`` (rows × out).
    other: the same architecture at another width; only shapes are read, so it may live on "meta".

    Raises
    ------
    RoleError: for a parameter that the copy lacks, or whose shapes determine no role.
    """
    shapes = {name: tuple(p.shape) for name, p in other.named_parameters()}
    found = {}
    for name, parameter in model.named_parameters():
        if name not in shapes or len(shapes[name]) != parameter.ndim:
            raise RoleError(f"parameter {name!r} of shape {tuple(parameter.shape)} is "
                            f"{shapes.get(name, 'missing')} in the other copy.",
                            "the two models differ in more than width", "build both from one config, width apart")
        owner = model.get_submodule(name.rpartition(".")[0])
        found[name] = _role(name, owner, tuple(parameter.shape), shapes[name])
    return found


def _role(name: str, owner: nn.Module, shape: tuple[int, ...], other: tuple[int, ...]) -> ParameterRole:
    if len(shape) <= 1:
        size = shape[0] if shape else 1
        grows = shape != other
        return ParameterRole(name, "vector", 1, size, size / other[0] if grows else None)
    if len(shape) != 2 or not isinstance(owner, nn.Linear | nn.Embedding):
        raise RoleError(f"parameter {name!r} of shape {shape} belongs to {type(owner).__name__}.",
                        "only matrices of nn.Linear and nn.Embedding, and vectors, have a known role")
    transposed = isinstance(owner, nn.Embedding)
    (fan_in, fan_out), (other_in, other_out) = (s if transposed else s[::-1] for s in (shape, other))
    grows_in, grows_out = fan_in != other_in, fan_out != other_out
    if not (grows_in or grows_out):
        raise RoleError(f"parameter {name!r} has shape {shape} in both models.",
                        "both copies have one width", "pass a copy of another width")
    role = "hidden" if grows_in and grows_out else "embedding" if grows_out else "readout"
    growth = fan_in / other_in if grows_in else fan_out / other_out
    return ParameterRole(name, role, fan_in, fan_out, growth)

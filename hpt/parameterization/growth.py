"""The role that growth gives: which axes of a parameter are a width, and what grows with it.

A matrix whose input and output both grow is hidden; one whose output alone grows is an embedding; one
whose input alone grows is a readout (Yang et al. 2022, section 4). Rows of a table, classes, positions
and experts are no width, whatever their number.
"""

from dataclasses import dataclass

from hpt.errors import RoleError
from hpt.parameterization.guesses import Unknown, guess_axes, suggest
from hpt.parameterization.layers import (
    EACH,
    attention_names,
    axes_of,
    block_of,
    is_lookup,
    is_norm,
    output_matrix,
)
from hpt.parameterization.rules import Role


@dataclass(frozen=True)
class ParameterRole:
    """Role and sizes of one parameter.

    Attributes
    ----------
    name: as in ``model.named_parameters()``.
    role: embedding, hidden, readout, vector or fixed.
    fan_in, fan_out: inputs and outputs of the map that the parameter is.
    growth: its growing size over that of the other copy, the input's where both grow; None where
        nothing grows (a scalar gain).
    growth_ratio: growth of the output over growth of the input; 1 unless both grow.
    dense: whether the input of an embedding is a vector of numbers, not the number of a row.
    tied_to: other names of the same parameter, where it is embedding and readout in one.
    shared_with: other names of the same parameter, where it does the same at several places.
    note: what is unusual about it; "" for most.
    """

    name: str
    role: Role
    fan_in: int
    fan_out: int
    growth: float | None
    growth_ratio: float = 1.0
    dense: bool = False
    tied_to: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()
    note: str = ""


class Sizes:
    """Pairs of sizes (here, in the other copy) in the whole model, and what they are sizes of.

    rows: of a table, with its name.
    taken: what some layer takes in or norms, features.
    given: what some layer or table gives out.
    last: in each block, the matrix that is registered last.
    stray: what grows at a pace of its own, in layers that nothing connects with a table or norm.
    """

    def __init__(self, seen, model):
        self.rows = {}
        self.taken = set()
        self.given = set()
        self.features = set()
        self.last = {}
        self.one_width = not any(each.grown for each in seen)
        self.output = output_matrix(model)
        self.has_readout = self.output is not None
        self.attentions = attention_names(model)
        for each in seen:
            self._add(each)
        self.stray = self._find_stray(seen)
        self.features |= self.taken
        self._check_rows()

    def _add(self, seen):
        if seen.is_entrywise:
            normed = seen.pairs(EACH) if is_norm(seen.place.layer) else set()
            self.features |= normed
            self.taken |= normed
            self.given |= normed
            return
        ins, outs = seen.pairs("in"), seen.pairs("out")
        self.taken |= ins
        self.given |= outs
        self.last[block_of(seen.name)] = seen.name
        if is_lookup(seen.place.layer):
            self.features |= outs
            self.rows |= dict.fromkeys(seen.pairs("rows"), seen.name)
        ends = all(here == there for here, there in outs)
        self.has_readout |= ends and any(here != there for here, there in ins)

    def _find_stray(self, seen):
        known = {pair for pair in self.features if pair[0] != pair[1]}
        layers = []
        for each in seen:
            ends = each.pairs("in") | each.pairs("out")
            layers.append({pair for pair in ends if pair[0] != pair[1]})
        count = -1
        while known and count != len(known):
            count = len(known)
            known = known.union(*(ends for ends in layers if ends & known))
        if not known:
            return set()
        paces = {here / there for here, there in known}
        every = set().union(*layers)
        return {(here, there) for here, there in every if here / there not in paces}

    def _check_rows(self):
        for (here, there), name in self.rows.items():
            if here != there and (here, there) in self.features:
                raise RoleError(
                    f"the rows of {name!r} change from {there} to {here}, as the width does.",
                    "the copies differ in more than width (a vocabulary, a context)",
                    f"param_groups(model, …, base_model=base), where base has {here} rows there too",
                )

    def grows(self, seen, axis, pair):
        """Whether an axis grows with the width.

        Raises
        ------
        Unknown: where it may as well be a number of classes, or of positions.
        """
        here, there = pair
        if here == there or axis == "rows":
            return False
        if seen.said or axis not in ("in", "out") or is_lookup(seen.place.layer):
            return True
        if pair in self.rows:
            return False
        same = "Then give both copies the same number"
        if pair in self.stray:
            raise Unknown(
                "fixed",
                f"nothing connects a size of it, which changes from {there} to {here}, with the width: "
                f"positions? {same}",
            )
        if axis == "out" and self._ends(seen, pair) and not self._is_fused(pair):
            raise Unknown(
                "readout",
                f"no layer takes in its output, which changes from {there} to {here}: classes? {same}",
            )
        return True

    def _ends(self, seen, pair):
        """Whether nothing that is known takes in what a matrix gives out, outside of attention."""
        if pair in self.taken or seen.name.startswith(self.attentions):
            return False
        block = block_of(seen.name)
        return not block or self.last[block] == seen.name

    def _is_fused(self, pair):
        """Whether it can be several projections in one matrix, in a model whose readout is another."""
        here, there = pair
        if not self.has_readout:
            return False
        return any(here * b == there * a and here % a == 0 for a, b in self.features)


def role_of(seen, sizes):
    """Role, fans, growth, ratio of growth, and whether the input is dense, of one parameter.

    Raises
    ------
    Unknown: where shapes do not tell.
    """
    if seen.said == "vector" or (seen.said is None and seen.is_entrywise):
        return _vector(seen, sizes)
    stays = not (seen.said or seen.grown or sizes.one_width)
    if seen.said == "fixed" or stays:
        fans = seen.shape or (1,)
        return ParameterRole(seen.name, "fixed", fan_in=fans[-1], fan_out=fans[0], growth=None)
    axes = seen.axes
    if not axes or not {"in", "out", "rows"} & set(axes):
        axes = guess_axes(seen, sizes)
    if axes[0] == EACH:
        return _vector(seen, sizes)
    if len(axes) != len(seen.shape) or not {"in", "rows"} & set(axes) or "out" not in axes:
        raise Unknown(suggest(seen, sizes), f"which axis is its input is not known for {seen.kind}")
    return _matrix(seen._replace(axes=axes), sizes)


def _vector(seen, sizes):
    grown = seen.grown
    if seen.said is None and len(grown) > 1:
        raise Unknown(suggest(seen, sizes), f"two sizes of it grow, of {seen.kind} by entries")
    growth = None
    for index in grown:
        here = seen.shape[index]
        there = seen.other[index]
        if (here, there) not in sizes.rows:
            growth = here / there
    size = max(seen.shape, default=1)
    return ParameterRole(seen.name, "vector", fan_in=1, fan_out=size, growth=growth)


def _matrix(seen, sizes):
    growth = {}
    fans = {"in": 1, "out": 1}
    words = {"rows": "in", "kernel": "in"}
    for axis, here, there in zip(seen.axes, seen.shape, seen.other, strict=True):
        fan = words.get(axis, axis)
        if fan in fans:
            fans[fan] *= here
        if sizes.grows(seen, axis, (here, there)):
            growth[axis] = growth.get(axis, 1.0) * here / there
    odd = growth.keys() - {"in", "out"}
    if odd:
        raise Unknown("fixed", f"changes in more than input and output: axis {min(odd)!r} grows too")
    role = seen.said
    if role is None:
        role = _role_of_growth(growth) if growth else _role_of_type(seen, sizes)
    other = {"embedding": "in", "readout": "out"}.get(role)
    growth.pop(other, None)
    ratio = growth["out"] / growth["in"] if len(growth) == 2 else 1.0
    return ParameterRole(
        name=seen.name,
        role=role,
        fan_in=fans["in"],
        fan_out=fans["out"],
        growth=growth.get("in", growth.get("out")),
        growth_ratio=ratio,
        dense=role == "embedding" and _takes_numbers(seen),
    )


def _role_of_growth(growth):
    if len(growth) == 2:
        return "hidden"
    return "readout" if "in" in growth else "embedding"


def _role_of_type(seen, sizes):
    """The role at one width, where only the kind of layer and the flow of sizes tell."""
    if not sizes.one_width:
        return "fixed"
    if is_lookup(seen.place.layer):
        return "embedding"
    is_output = getattr(seen.place.layer, seen.place.leaf, None) is sizes.output
    if is_output or seen.kind.endswith("Router"):
        return "readout"
    if not seen.pairs("in") & sizes.given:
        return "embedding"
    is_last = not block_of(seen.name) and not seen.pairs("out") & sizes.taken
    return "readout" if is_last else "hidden"


def _takes_numbers(seen):
    """Whether a layer multiplies vectors of numbers, and is no table of rows."""
    words = seen.axes
    is_raw = axes_of(seen.place, seen.shape) is None
    return words.index("out") < words.index("in") if is_raw and "in" in words else "rows" not in words

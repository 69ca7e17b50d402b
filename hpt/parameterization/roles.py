"""Which role every parameter of a model has, read off the shapes of the same model at another
width.

:mod:`~hpt.parameterization.copies` lays both side by side, :mod:`~hpt.parameterization.growth` tells
the roles of what grows, :mod:`~hpt.parameterization.guesses` what is likely of raw parameters, and
:mod:`~hpt.parameterization.doubts` refuses.
"""

from collections import defaultdict
from dataclasses import replace

from torch import nn

from hpt.parameterization.copies import RoleMap, as_said, see
from hpt.parameterization.doubts import Doubt, half_grown, missed, refuse
from hpt.parameterization.growth import ParameterRole, Sizes, role_of
from hpt.parameterization.guesses import Unknown
from hpt.parameterization.layers import (
    attention_names,
    axes_of,
    is_lookup,
    output_matrix,
    place_of,
    plain_name,
    unwrap,
)


def find_roles(
    model: nn.Module, other: nn.Module, mapping: RoleMap | None = None
) -> dict[str, ParameterRole]:
    """Roles of all parameters, each once, by comparing shapes with ``other``.

    Parameters
    ----------
    model: any module; layers of torch and Hugging Face are known, others need an entry in
        ``mapping`` where shapes leave a doubt.
    other: the same architecture at another width; only shapes are read, so it may live on "meta".
        At the same width the layers' types and sizes tell the roles.
    mapping: what shapes cannot tell, by pattern of names: ``{"*.k_proj.weight": "hidden"}``, or
        with the axes in words: ``{"mixer.w": ("hidden", "heads out in")}``. An axis that is neither
        is left out of both fans, except "kernel", which counts to fan_in.

    Raises
    ------
    RoleError: for the parameters that one copy lacks; for those whose shapes leave a doubt, all of
        them at once with the roles that shapes suggest; and for a pattern that fits none.
    """
    model, other = unwrap(model), unwrap(other)
    every = see(model, other, mapping or {})
    sizes = Sizes([seen for seen, _ in every.values()], model)
    found: dict[str, ParameterRole] = {}
    doubts = []
    for name, (seen, names) in every.items():
        try:
            role = role_of(seen, sizes)
        except Unknown as unknown:
            suggested, why = unknown.args
            try:
                role = role_of(as_said(seen, suggested), sizes)
            except Unknown as again:
                suggested, _ = again.args
                role = role_of(as_said(seen, suggested), sizes)
            # What nothing trains needs no answer.
            if seen.trainable:
                doubts.append(Doubt(seen, suggested, why))
        found[name] = _shared(replace(role, name=name), names, model)
    copies = {name: seen for name, (seen, _) in every.items()}
    doubted = {doubt.seen.name for doubt in doubts}
    free = {name: seen for name, seen in copies.items() if seen.said is None and seen.name not in doubted}
    found |= _keys_and_values(free, found, model)
    found |= _biases(copies, free, found)
    doubts += [*half_grown(free, found), *missed(free, found, model)]
    if doubts:
        refuse(doubts, [seen.name for seen in copies.values()])
    return found


def _shared(role, names, model):
    """A role with the parameter's other names: a table that is a matrix too is tied, all else is
    one layer at several places."""
    own = plain_name(role.name)
    rest = []
    is_table = set()
    for name in names:
        place = place_of(model, name)
        is_raw = axes_of(place, (role.fan_out, role.fan_in)) is None
        is_table.add(is_lookup(place.layer) or (is_raw and role.role == "embedding"))
        plain = plain_name(name)
        if plain != own:
            rest.append(plain)
    is_output = model.get_parameter(role.name) is output_matrix(model)
    if is_table == {True} and is_output:
        is_table.add(False)
        rest.append("get_output_embeddings()")
    field = "tied_to" if len(is_table) == 2 else "shared_with"
    return replace(role, **{field: tuple(rest)})


def _keys_and_values(free, found, model):
    """The projections to keys and values, whose number of heads stays as the width grows, are hidden
    as the queries are."""
    attentions = attention_names(model)
    families = defaultdict(list)
    for name, seen in free.items():
        if seen.is_entrywise:
            continue
        around = [each for each in attentions if seen.name.startswith(each)]
        attention = max(around, key=len, default="")
        families[attention, attention or seen.parent].append(found[name])
    changed = {}
    for (is_attention, _), family in families.items():
        narrow = [role for role in family if role.role == "readout"]
        queries = [role for role in family if role.role == "hidden"]
        sizes = [(role.fan_in, role.fan_out) for role in narrow]
        for role in narrow:
            is_pair = sizes.count((role.fan_in, role.fan_out)) > 1
            alike = [q for q in queries if q.fan_in == role.fan_in and q.fan_out % role.fan_out == 0]
            if alike and (is_attention or is_pair):
                note = f"{role.name} maps into heads whose number does not grow: hidden, as queries are"
                changed[role.name] = replace(role, role="hidden", note=note)
    return changed


def _biases(every, free, found):
    """The bias of a layer whose output does not grow grows with nothing."""
    stays = {every[name].place.layer for name, role in found.items() if role.role in ("readout", "fixed")}
    return {
        name: replace(found[name], growth=None)
        for name, seen in free.items()
        if found[name].role == "vector" and seen.place.layer in stays
    }

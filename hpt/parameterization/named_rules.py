"""Rules of other authors by name, and the rule of any name.

Sources: [TPV] Yang et al. 2022, arXiv 2203.03466.  [KB] Kalra & Barkeshli 2026, arXiv 2605.21486.
[E] Everett et al. 2024, arXiv 2407.05872.  [HL] Hayou & Liu 2025, arXiv 2506.15025.  [CP] Dey et
al. 2025 (CompleteP), arXiv 2505.01618.  [UM] Blake et al. 2024 (u-μP), arXiv 2407.17465.
[L] Lingle 2024, arXiv 2404.05728.
"""

from dataclasses import replace
from numbers import Real

from hpt.errors import ConfigError
from hpt.parameterization.rules import GROWING, SHRINKING, UNIT_SUM, PowerLaw, RoleLaws, Rule, unknown_name
from hpt.parameterization.sixteen import PARAMETERIZATIONS, Parameterization

_AS_EMBEDDING = RoleLaws(source="not in the source: as the embedding")
_AS_HIDDEN = "not in the source: as hidden"
#: In μP the hidden LR falls as 1/m, and λ grows by m, so that their product stays.
_MUP_HIDDEN = RoleLaws(std=UNIT_SUM, lr=SHRINKING, decay=GROWING)
#: Readout of the forms that multiply the logits by 1/m.
_MULTIPLIED_READOUT = RoleLaws(std=PowerLaw(fan_in=-0.5, m=0.5), multiplier=SHRINKING)


def _everett(name, alignment, lr):
    return Rule(
        name=name,
        about=f"SP with Adam, LR exponents for {alignment} alignment. Everett et al. 2024.",
        lr_is="base",
        source=f"E, Adam, SP, {alignment} alignment",
        hidden=RoleLaws(std=UNIT_SUM, lr=lr),
        readout=RoleLaws(std=UNIT_SUM, lr=lr),
        vector=_AS_EMBEDDING,
    )


#: The named rules of other authors.
NAMED_RULES: dict[str, Rule] = {
    named.name: named
    for named in (
        Rule(
            name="mup-table3",
            about="μP with Adam, no multipliers. Yang et al. 2022, Table 3.",
            lr_is="base",
            source="TPV Table 3; decay: mup, CP",
            hidden=_MUP_HIDDEN,
            readout=replace(_MUP_HIDDEN, std=PowerLaw(fan_in=-0.5, m=-0.5)),
            attention="1/d_head",
        ),
        Rule(
            name="mup-table8",
            about="μP with Adam, readout × 1/m (the form of the package mup). Yang et al. 2022, Table 8.",
            lr_is="base",
            source="TPV Table 8; decay: mup, CP",
            hidden=_MUP_HIDDEN,
            readout=_MULTIPLIED_READOUT,
            attention="1/d_head",
        ),
        _everett("everett-full-align", "full", SHRINKING),
        _everett("everett-no-align", "no", PowerLaw(m=-0.5)),
        Rule(
            name="hayou-liu",
            about="SP with Adam for a large vocabulary: embedding LR over hidden LR is √m. Hayou & Liu 2025.",
            lr_is="hidden",
            source="HL",
            hidden=RoleLaws(std=UNIT_SUM),
            readout=RoleLaws(std=UNIT_SUM, source=_AS_HIDDEN),
            embedding=RoleLaws(lr=PowerLaw(m=0.5)),
            vector=RoleLaws(source=_AS_HIDDEN),
        ),
        Rule(
            name="completep",
            about="μP's width part with AdamW's ε and λ scaled. Dey et al. 2025 (CompleteP).",
            lr_is="base",
            source="CP",
            hidden=replace(_MUP_HIDDEN, eps=SHRINKING),
            readout=replace(_MULTIPLIED_READOUT, eps=SHRINKING),
            embedding=RoleLaws(eps=SHRINKING),
            vector=RoleLaws(eps=SHRINKING),
            attention="1/d_head",
            notes=(
                "The depth part is left out: its residual multiplier and its powers of m_depth are 1 here; "
                "with_depth(base_depth) adds it.",
            ),
        ),
        Rule(
            name="lingle",
            about="μP as in Lingle 2024: readout from 1/n whatever the base width, logits q·k/d_head.",
            lr_is="base",
            source="L",
            hidden=RoleLaws(std=UNIT_SUM, lr=SHRINKING),
            readout=RoleLaws(std=PowerLaw(fan_in=-1.0), lr=SHRINKING),
            attention="1/d_head",
            attention_at_base=False,
            notes=("He counts the learning rates from width 128, and scales no weight decay.",),
        ),
        Rule(
            name="u-mup",
            about="Unit-scaled μP, its rates; η₀ is an LR for weights of std 1. Blake et al. 2024 (u-μP).",
            lr_is="base",
            source="UM Table 2",
            hidden=RoleLaws(lr=PowerLaw(fan_in=-0.5), multiplier=PowerLaw(fan_in=-0.5)),
            readout=RoleLaws(multiplier=PowerLaw(fan_in=-1.0)),
            embedding=RoleLaws(lr=PowerLaw(fan_out=-0.5)),
            attention="1/d_head",
            notes=("Unit scaling's other multipliers (activations, residuals, depth) belong to the model.",),
        ),
    )
}


def rule(name: str | Parameterization | Rule, base_width: int | None = None) -> Rule:
    """The rule of a name: one of the sixteen, or of :data:`NAMED_RULES`.

    Parameters
    ----------
    name: "sp+embd", "μP", …; "mup-table3", "mup-table8", "everett-full-align", "everett-no-align",
        "hayou-liu", "completep", "lingle", "u-mup"; or what this function returned.
    base_width: width at which m is 1; by default that of ``name``, which is 1 unless set.

    Returns
    -------
    The rule, to be printed, to be trained by, and to make others of:
    ``hpt.rule("sp").with_power(0.5)`` trains embeddings at η·√m, see :class:`Rule`.

    Raises
    ------
    ConfigError: for any other name, with all of them.
    """
    if base_width is not None and not (isinstance(base_width, Real) and base_width >= 1):
        raise ConfigError(f"{base_width=} is no width.", "the width at which m is 1", "base_width=256")
    if isinstance(name, str):
        name = NAMED_RULES.get(name.strip().lower().replace("_", "-"), name)
    if isinstance(name, Rule):
        return replace(name, base_width=base_width or name.base_width)
    try:
        return Parameterization.parse(name, base_width).rule
    except ConfigError as error:
        raise unknown_name("rule", name, [*PARAMETERIZATIONS, *NAMED_RULES]) from error


def trained_by(value: str | Parameterization | Rule) -> Parameterization | Rule:
    """What a run is trained by, as it is compared, kept and counted: one of the sixteen where it is one, else
    a rule.

    Raises
    ------
    ConfigError: for an unknown name, and for a rule that bears the name of another.
    """
    if isinstance(value, Parameterization):
        return value
    own = rule(value) if isinstance(value, str) else value
    known = NAMED_RULES.get(own.name) or _one_of_the_sixteen(own.name)
    if known is None:
        return own
    known = replace(known, base_width=own.base_width)
    if rule(known) != own:
        raise ConfigError(
            f"a rule named {own.name!r} has not the laws of that name.",
            "it was made from it by dataclasses.replace, which keeps the name",
            "dataclasses.replace(rule, name=…, …), or rule.with_laws(…), which names it anew",
        )
    return known


def _one_of_the_sixteen(name):
    """The parameterization of a name, or None."""
    try:
        return Parameterization.parse(name)
    except ConfigError:
        return None

"""The four roles of a Transformer's parameters, drawn, with the switch that acts on each."""

from __future__ import annotations

from matplotlib.figure import Figure

from hpt.parameterization import sixteen_table
from hpt.plots.style import ROLE_COLORS, new_figure

#: From the tokens to their prediction: role, what the layer does, the switch that acts there.
LAYERS = (
    ("", "token", ""),
    ("embedding", "EMBEDDING\nlooks up a row of n", "Embd"),
    ("vector", "norm\nVECTOR of n gains", "LN"),
    ("hidden", "attention\nHIDDEN, n × n", "Attn"),
    ("vector", "norm\nVECTOR of n gains", "LN"),
    ("hidden", "MLP\nHIDDEN, n × 4n", ""),
    ("vector", "norm\nVECTOR of n gains", "LN"),
    ("readout", "READOUT\nn to vocabulary", "Last"),
    ("", "next token", ""),
)
#: The column of the table of the sixteen that a switch changes, and what it says.
ACTS_ON = {
    "Embd": ("embedding LR", "rate"),
    "LN": ("vector LR", "rate"),
    "Attn": ("attention logits", "logits"),
    "Last": ("readout std", "std"),
}
#: Above and below these layers a residual block begins and ends.
BLOCK = (1.5, 5.5)


def said_of(switch: str) -> str:
    """What a switch changes where it acts: the value with it, and the one without."""
    column, what = ACTS_ON[switch]
    values = sixteen_table()[column]
    return f"{switch}: {what} {values['SP+' + switch]},\nnot {values['SP']}"


def draw_roles() -> Figure:
    """A Transformer from top to bottom: each layer in the colour of its role, beside it its switch."""
    figure, [ax] = new_figure(1, height=6)
    for y, (role, text, switch) in enumerate(LAYERS):
        color = ROLE_COLORS.get(role, "black")
        looks = {"color": color, "fontsize": 10, "va": "center"}
        box = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": color, "lw": 2 if role else 0}
        ax.text(0, y, text, ha="center", bbox=box, **looks)
        if role:
            ax.text(0.75, y, said_of(switch) if switch else "no switch: rate η", **looks)
        if y:
            ax.annotate("", (0, y - 0.36), (0, y - 0.64), arrowprops={"arrowstyle": "->", "color": "#777777"})
    ax.plot([-0.82, -0.82], BLOCK, color="#777777", lw=1)
    ax.text(-0.86, sum(BLOCK) / 2, "a block, as often as layers", rotation=90, ha="right", **looks)
    ax.set(xlim=(-1, 2.1), ylim=(len(LAYERS) - 0.7, -0.3))
    # Not drawn; it begins the figure in words.
    ax.set_xlabel("A Transformer from token to next token, each layer with its role and its switch")
    ax.set_axis_off()
    return figure

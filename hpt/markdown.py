"""Tables as Markdown."""

import pandas as pd


def markdown_table(table: pd.DataFrame) -> str:
    """A table as Markdown; a bar within a cell would end it, so it is escaped."""
    rule = ["---"] * table.shape[1]
    rows = [list(table.columns), rule, *table.astype(str).to_numpy().tolist()]
    lines = []
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)

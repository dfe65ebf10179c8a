"""Aligned columns of plain text."""

from collections.abc import Collection, Sequence

from selfhost.control_characters import in_one_line


def align(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """One line per row, columns two spaces apart; those whose number is in `right` are aligned to the right."""
    rows = [[in_one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

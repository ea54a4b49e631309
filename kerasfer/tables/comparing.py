"""Compares the rows of a table on the same test pictures."""

from typing import NamedTuple

from kerasfer.evaluate.paired import PairedDifference, paired_difference


class Comparison(NamedTuple):
    """A row compared with another one.

    Args:
        row: The name of the row.
        against: The name of the other row.
        column: The column in which both are compared.
        result: The `PairedDifference` of their accuracies.
        num_samples: The number of pictures.
    """

    row: str
    against: str
    column: str
    result: PairedDifference
    num_samples: int


def compare_rows(table, filled):
    """Compares each row of a table with the row that its `against` names.

    Runs with the same seed are compared. Seeds that only one of the rows has are ignored, and so
    are seeds whose test pictures differ from those of the first seed.

    Args:
        table: `kerasfer.tables.cells.Table`.
        filled: The cells of `kerasfer.tables.fill_table`.

    Returns:
        A `Comparison` for each accuracy whose row has an `against`, if both rows have runs with
        known outcomes for the same pictures.

    Raises:
        RunError: If the predictions of a run are damaged.
    """
    cells = {(entry.cell.row, entry.cell.column): entry for entry in filled}
    comparisons = []
    for (row, column), entry in cells.items():
        against = table.file.rows[row].against
        other = cells.get((against, column))
        pairs = _pairs(entry, other) if other and entry.cell.metric == "accuracy" else []
        if pairs:
            first, second = zip(*pairs, strict=True)
            result = paired_difference(first, second)
            comparisons.append(Comparison(row, against, column, result, len(first[0])))
    return comparisons


def _pairs(entry, other):
    """Lists the outcomes of two rows for each seed that both have."""
    first, second = _outcomes(entry), _outcomes(other)
    pictures = next((outcomes.pictures for outcomes in first.values()), None)
    return [
        (first[seed].correct, second[seed].correct)
        for seed in first
        if seed in second and first[seed].pictures == second[seed].pictures == pictures
    ]


def _outcomes(entry):
    known = {
        result.recipe.train.seed: result.outcomes(entry.cell.list_name) for result in entry.results
    }
    return {seed: outcomes for seed, outcomes in known.items() if outcomes is not None}

"""Renders a filled table as text for a terminal, or as Markdown for a page of results."""

from kerasfer.tables.cells import CLASS_METRICS
from kerasfer.tables.comparing import compare_rows
from kerasfer.text import duration

_NONE = "–"
_COMPARISONS = (
    "Differences are those of the accuracy on the same test pictures, with 95 % intervals. p is "
    "the p-value of McNemar's test; with several seeds, the mean over the seeds is one observation "
    "of a picture. Neither includes the random variation between trainings, which the values by "
    "seed show."
)


def render_table(table, filled, *, markdown=False):
    """Renders a table with a line for each cell, which compares it with the paper, and notes.

    Args:
        table: `kerasfer.tables.cells.Table`.
        filled: The cells of `kerasfer.tables.fill_table`.
        markdown: Whether to write Markdown instead of aligned columns. If nothing was measured yet,
            Markdown shows the published values alone, as the paper prints them.

    Returns:
        The text.

    Example:

    ```python
    print(render_table(table, fill_table(table)))
    ```
    """
    notes = _notes(table, filled)
    measured = any(entry.value for entry in filled)
    rows = _rows(table, filled) if measured or not markdown else _published(table, filled)
    comparisons = _comparisons(table, filled)
    if comparisons:
        notes.append(_COMPARISONS)
    write = _markdown_rows if markdown else _aligned_rows
    body = [line for part in (rows, comparisons) if part for line in (*write(part), "")]
    title, start = (f"## {table.file.title}", "- ") if markdown else (table.file.title, "  ")
    return "\n".join([title, "", *body, *(start + note for note in notes)]).rstrip() + "\n"


def _rows(table, filled):
    """Returns the lines of the table as dicts from the heading of a column to its text."""
    by_class = any(entry.cell.metric in CLASS_METRICS for entry in filled)
    with_others = any(entry.value and entry.value.without_duplicates for entry in filled)
    rows = []
    for entry in filled:
        cell, value = entry.cell, entry.value
        write = _writer(table.file.unit)
        row = {
            "row": cell.row,
            "column": cell.column,
            "paper": _NONE if cell.paper is None else f"{cell.paper:{write.digits}}",
            "ours": _ours(cell, value, write),
        }
        if with_others:
            others = value.without_duplicates if value else None
            row["without duplicates"] = _others(others, write)
        if not by_class:
            row["macro recall"] = write(value.macro_recall) if value else _NONE
        row |= {"protocol": _NONE, "N": _NONE, "run": _NONE}
        if value:
            row["protocol"] = value.protocol + (", leaking" if value.leaking else "")
            row["N"] = f"{value.num_samples:,}"
        if cell.recipe is not None:
            seeds = _other_seeds(len(cell.recipes) - 1)
            row["run"] = cell.recipe.name + seeds
        rows.append(row)
    return rows


def _other_seeds(count):
    return f" (+ {count} seed{'s' * (count != 1)})" if count else ""


def _comparisons(table, filled):
    """Returns the lines of the comparisons of rows, as `_rows` does."""
    write = _writer(table.file.unit)
    return [
        {
            "row": row,
            "against": against,
            "column": column,
            "difference": _difference(result, write),
            "p": "< 0.001" if result.p_value < 0.001 else f"{result.p_value:.3f}",
            "by seed": ", ".join(_signed(value, write) for value in result.by_seed),
            "N": f"{num_samples:,}",
        }
        for row, against, column, result, num_samples in compare_rows(table, filled)
    ]


def _difference(result, write):
    low, high = (_signed(end, write) for end in result.interval)
    return f"{_signed(result.difference, write)} [{low}, {high}]"


def _signed(share, write):
    text = write(share)
    return text if text.startswith("-") else f"+{text}"


def _published(table, filled):
    """Returns the published values as the paper prints them, a line for each row."""
    rows, digits = {}, _writer(table.file.unit).digits
    for cell in (entry.cell for entry in filled):
        row = rows.setdefault(
            cell.row, {"paper": cell.row, **dict.fromkeys(table.file.columns, _NONE)}
        )
        if cell.paper is not None:
            row[cell.column] = f"{cell.paper:{digits}}" + " (quoted)" * (cell.quoted is not None)
    return list(rows.values())


def _writer(unit):
    factor, digits = (100, ".2f") if unit == "percent" else (1, ".3f")

    def write(share):
        return f"{factor * share:{digits}}"

    write.digits = digits
    return write


def _ours(cell, value, write):
    if cell.quoted is not None:
        return "quoted only"
    if value is None:
        return "not run"
    if value.sd is not None:
        seeds = f" ({value.num_seeds} seeds)" if value.num_seeds > 1 else ""
        return f"{write(value.value)} ± {write(value.sd)}{seeds}"
    if value.interval is None:
        return write(value.value)
    low, high = value.interval
    return f"{write(value.value)} [{write(low)}, {write(high)}]"


def _others(others, write):
    if not others or not others["num_samples"]:
        return _NONE
    low, high = others["accuracy_interval"]
    rate = f"{write(others['accuracy'])} [{write(low)}, {write(high)}]"
    return f"{rate} of {others['num_samples']:,}"


def _notes(table, filled):
    notes = [table.file.note] if table.file.note else []
    if table.overrides:
        changes = ", ".join(f"{key}={value}" for key, value in table.overrides.items())
        notes.append(f"The recipes were changed: {changes}.")
    quoted = {}
    for entry in filled:
        if entry.cell.quoted is not None:
            quoted.setdefault(entry.cell.quoted, []).append(entry.cell.row)
    for reason, rows in quoted.items():
        notes.append(f"{', '.join(dict.fromkeys(rows))}: quoted; {reason}")
    notes += dict.fromkeys(entry.problem for entry in filled if entry.problem)
    if any(entry.value and entry.value.leaking for entry in filled):
        notes.append(
            "Leaking: near-identical frames of one sequence are in training and test. "
            "`--set data.protocol=subjects` separates people."
        )
    results = {result.name: result for entry in filled for result in entry.results}
    notes += [_describe(result) for result in results.values()]
    missing = sum(_is_incomplete(entry) for entry in filled)
    if missing:
        count = f"{missing} of {len(filled)} values are not completely measured yet."
        if not any(entry.value for entry in filled):
            count = "None of the values is measured yet."
        notes.append(
            f"{count} `kerasfer table {table.path.as_posix()} "
            "--run-missing` trains the missing runs."
        )
    return notes


def _is_incomplete(entry):
    measured = entry.value.num_seeds if entry.value else 0
    return measured < len(entry.cell.recipes)


def _describe(result):
    """Describes a run in one line, with the facts that are known."""
    facts, history = result.environment, result.history
    parts = [f"`{result.name}`"]
    if facts.get("num_parameters"):
        parts.append(f"{facts['num_parameters'] / 1e6:.1f} million parameters")
    if history and result.recipe:
        of_all = f" of {result.recipe.train.epochs}" * (len(history) < result.recipe.train.epochs)
        parts.append(f"{len(history)}{of_all} epoch{'s' * (result.recipe.train.epochs != 1)}")
    if result.recipe:
        parts.append(f"{result.recipe.data.image_size} px")
        if result.recipe.train.precision != "float32":
            parts.append(result.recipe.train.precision)
    if facts.get("seconds"):
        parts.append(f"{duration(facts['seconds'])} of training on {facts.get('device')}")
    if "seed" in facts:
        parts.append(f"seed {facts['seed']}")
    return f"{parts[0]}: {', '.join(parts[1:])}." if len(parts) > 1 else f"{parts[0]}."


def _aligned_rows(rows):
    headings = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in headings}
    right = ("paper", "macro recall", "N")

    def line(row):
        cells = [
            f"{row[name]:>{widths[name]}}" if name in right else f"{row[name]:<{widths[name]}}"
            for name in headings
        ]
        return "  ".join(cells).rstrip()

    lines = [line({name: name for name in headings}), line({n: "-" * widths[n] for n in headings})]
    before = None
    for row in rows:
        lines.append(line(row | {"row": "" if row["row"] == before else row["row"]}))
        before = row["row"]
    return lines


def _markdown_rows(rows):
    headings = list(rows[0])

    def line(cells):
        return f"| {' | '.join(cells)} |"

    def shown(row):
        run = row.get("run", _NONE)
        code = {} if run == _NONE else {"run": f"`{run}`"}
        return [text.replace("|", "\\|") for text in (row | code).values()]

    lines = [line(headings), "|" + "---|" * len(headings)]
    return [*lines, *(line(shown(row)) for row in rows)]

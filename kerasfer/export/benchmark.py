"""Exports a model in every format, and compares the files in one table."""

import contextlib
import sys
import tempfile

from kerasfer.errors import KerasferError
from kerasfer.export.exporting import export_run
from kerasfer.export.formats import FORMATS
from kerasfer.text import percent

COLUMNS = ("format", "size", "load", "memory", "1 core", "all cores", "agreement", "accuracy")


def benchmark(run, *, data_dir=None, pictures=None):
    """Exports a model in every format and quantization, and measures the files.

    Nothing is kept. The progress is printed to stderr.

    Args:
        run, data_dir, pictures: As in `kerasfer.export.export_run`.

    Yields:
        For each format and quantization its name, and the report of `export_run` or the
        `KerasferError` of a failed export.

    Example:

    ```python
    print(render(benchmark("runs/quickstart")))
    ```
    """
    for format, described in FORMATS.items():
        for quantize in described.quantizations:
            name = format if quantize == "none" else f"{format} {quantize}"
            with (
                tempfile.TemporaryDirectory(prefix="kerasfer-") as folder,
                contextlib.redirect_stdout(sys.stderr),
            ):
                try:
                    result = export_run(
                        run,
                        format,
                        quantize,
                        output_dir=folder,
                        data_dir=data_dir,
                        pictures=pictures,
                        allow_mismatch=True,
                    )
                except KerasferError as error:
                    result = error
            yield name, result


def render(results):
    """Formats the results of `benchmark` as a table in Markdown, with notes.

    Args:
        results: Iterable of pairs of a name and a report or a `KerasferError`.

    Returns:
        A string of several lines.

    Raises:
        KerasferError: If no format could be exported.
    """
    results = list(results)
    reports = {name: result for name, result in results if isinstance(result, dict)}
    if not reports:
        raise results[0][1]
    rows = [COLUMNS, *(_row(name, report) for name, report in reports.items())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "|".join(["", *("-" * (width + 2) for width in widths), ""]))
    return "\n".join([*lines, "", *_notes(results, reports)])


def _row(name, report):
    latency = list(report["latency_ms"].values())
    memory = report["memory_bytes"]
    one = latency[0] if "1" in report["latency_ms"] else None
    return (
        name + (" *" if report["mismatch"] else ""),
        f"{report['size_bytes'] / 1e6:.2f} MB",
        f"{report['load_ms']:.0f} ms",
        "–" if memory is None else f"{memory / 1e6:.0f} MB",
        "–" if one is None else f"{one['p50']:.2f} ms",
        f"{latency[-1]['p50']:.2f} ms",
        percent(report["top1_agreement"]),
        percent(report["accuracy"]["exported"]) if "accuracy" in report else "–",
    )


def _line(row, widths):
    first, *others = row
    cells = [first.ljust(widths[0]), *map(str.rjust, others, widths[1:])]
    return f"| {' | '.join(cells)} |"


def _notes(results, reports):
    report = next(iter(reports.values()))
    notes = [
        f"{report['num_pictures']:,} pictures: {report['pictures']}. {report['device']}. "
        "The times are medians for one face."
    ]
    if "accuracy" in report:
        notes.append(f"The accuracy of the model is {percent(report['accuracy']['model'])}.")
    if report["note"]:
        notes.append(report["note"])
    for name, result in results:
        if isinstance(result, KerasferError):
            notes.append(f"{name} failed: {result}")
        elif result["mismatch"]:
            notes.append(f"* {name} disagrees with the model: {result['mismatch']}.")
    return notes

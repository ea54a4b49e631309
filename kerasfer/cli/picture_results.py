"""Prints the results of predict and explain for pictures."""

import click


def finish(ctx, paths, records, more=""):
    """Prints a summary to stderr, and fails if a picture could not be read.

    Args:
        ctx: The click context.
        paths: List of the picture files.
        records: One dict per picture with `faces` and `error`.
        more: Text to append to the summary.
    """
    faces = sum(len(record["faces"]) for record in records)
    bad = sum(record["error"] is not None for record in records)
    empty = sum(not record["faces"] and record["error"] is None for record in records)
    parts = [f"{_count(faces, 'face')} in {_count(len(records) - bad - empty, 'picture')}"]
    if empty:
        parts.append(f"no face in {_count(empty, 'picture')}")
    if bad:
        parts.append(f"{_count(bad, 'picture')} could not be read")
    click.echo(", ".join(parts) + more, err=True)
    if empty:
        _suggest_no_detector(paths, records)
    if bad:
        ctx.exit(1)


def _suggest_no_detector(paths, records):
    """Suggests `--detector none` if pictures without a detected face look like face crops."""
    from kerasfer.faces.ready_crops import looks_like_crop

    pairs = zip(paths, records, strict=True)
    empty = (path for path, record in pairs if not record["faces"] and record["error"] is None)
    if crops := sum(map(looks_like_crop, empty)):
        click.echo(
            f"{_count(crops, 'picture')} without a face {'is' if crops == 1 else 'are'} small and "
            "nearly square. If your pictures are face crops, use --detector none.",
            err=True,
        )


def _count(number, thing):
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def cut_front(name, width):
    """Fits a name into a column by cutting its beginning."""
    return f"…{name[1 - width :]}" if len(name) > width else f"{name:<{width}}"

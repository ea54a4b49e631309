"""Options of the commands that use several processes, and `kerasfer predict --parquet`."""

import sys

import click

parquet_option = click.option(
    "--parquet",
    type=click.Path(),
    metavar="DIR",
    help="Write the results as Parquet files into this folder, with one row per face, instead of "
    "printing them. Needs the extra kerasfer[ray].",
)
address_option = click.option(
    "--ray-address",
    metavar="ADDRESS",
    help="Address of a Ray cluster, such as 10.0.0.5:6379.  [default: start Ray on this machine]",
)


def workers_option(text):
    """Returns the option `--workers`. Commands receive None where it is not given."""
    return click.option("--workers", type=click.IntRange(min=1), metavar="N", help=text)


def score(ctx, run, pictures, folder, workers, faces, margin, address):
    """Classifies pictures into Parquet files, and prints a summary to standard error.

    The exit code is 1 if a picture could not be read.
    """
    from kerasfer.scale import scoring

    with click.progressbar(length=1, label="Classifying", file=sys.stderr, show_pos=True) as bar:

        def tell(done, total):
            bar.length = total
            bar.update(done - bar.pos)

        counts = scoring.score(
            run,
            pictures,
            folder,
            workers=workers,
            faces=faces,
            margin=margin,
            address=address,
            tell=tell,
        )
    parts = [f"{counts['faces']:,} faces in {counts['pictures']:,} pictures"]
    if counts["empty"]:
        parts.append(f"no face in {counts['empty']:,}")
    if counts["errors"]:
        parts.append(f"{counts['errors']:,} could not be read")
    if counts["answered_before"]:
        parts.append(f"{counts['answered_before']:,} were classified before")
    click.echo(f"{', '.join(parts)}; written to {folder}", err=True)
    if counts["errors"]:
        ctx.exit(1)

"""kerasfer table."""

from pathlib import Path
from time import monotonic

import click

from kerasfer.cli.scaling import address_option, workers_option
from kerasfer.cli.shared import (
    Command,
    backend_option,
    data_dir_option,
    prepare_keras,
    set_option,
)


@click.command(cls=Command)
@click.argument("path", metavar="TABLE", type=click.Path())
@click.option(
    "--run-missing",
    is_flag=True,
    help="Train and evaluate the runs that are not finished in --output-dir.",
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    help="Time budget of --run-missing: after so many hours no other run begins.",
)
@click.option("--markdown", is_flag=True, help="Write Markdown.")
@click.option(
    "--output", type=click.Path(), help="Write the table into this file instead of printing it."
)
@click.option(
    "--figures", type=click.Path(), help="Draw the figures of the table into this folder."
)
@click.option(
    "--record",
    is_flag=True,
    help="Record the results of the finished runs as small files in results/, next to the folder "
    "of the tables. A table shows them if the run folder is missing.",
)
@workers_option("With --run-missing, train so many runs at the same time, each in a process.")
@click.option(
    "--cpus-per-run",
    type=click.IntRange(min=1),
    help="Cores of each run.  [default: the cores of this machine divided by --workers; 1 on a "
    "Ray cluster]",
)
@click.option(
    "--gpus-per-run",
    type=click.FloatRange(min=0),
    help="GPUs of each run, such as 0.5.  [default: the GPUs divided by --workers, at most 1]",
)
@address_option
@set_option
@data_dir_option
@click.option(
    "--output-dir", type=click.Path(), default="runs", show_default=True, help="Folder of the runs."
)
@backend_option
@click.pass_context
def table(
    ctx,
    path,
    run_missing,
    hours,
    markdown,
    output,
    figures,
    record,
    workers,
    cpus_per_run,
    gpus_per_run,
    ray_address,
    overrides,
    data_dir,
    output_dir,
    backend,
):
    """Compare a TABLE of a paper with measured results, and train the runs that are missing.

    A table is a YAML file whose rows and columns name recipes and their changes. A folder stands
    for all tables in it, after the text of its head.md. Finished runs are not repeated, and the
    same command continues after an interruption. Intervals are 95 % Wilson intervals. With `seeds:`
    in the table each cell is trained once per seed, and shows mean ± standard deviation. With
    `against:` in a row it is compared with another row on the same test pictures.

    \b
    Examples:
      kerasfer table recipes/tables/spd_table1.yaml
      kerasfer table recipes/tables/obsr_table3.yaml --run-missing --data-dir ~/faces
      kerasfer table recipes/tables --run-missing --workers 4 --gpus-per-run 1
      kerasfer table recipes/tables --markdown --output recipes/README.md
    """
    from kerasfer.files import write_text
    from kerasfer.tables import fill_table, list_tables, load_table, render_table, write_summary
    from kerasfer.tables import run_missing as run

    if workers and not run_missing:
        raise click.UsageError("--workers needs --run-missing.")
    if not workers and (cpus_per_run or gpus_per_run is not None or ray_address):
        raise click.UsageError("--cpus-per-run, --gpus-per-run and --ray-address need --workers.")
    head, paths = list_tables(path)
    tables = [load_table(path, overrides) for path in paths]
    problems = {}
    if run_missing:
        started = monotonic()
        recipes = [cell.recipe for table in tables for cell in table.cells if cell.recipe]
        prepare_keras(backend or next(filter(None, (r.train.backend for r in recipes)), None))
        if workers:
            from kerasfer.scale.studies import Resources, run_in_parallel

            resources = Resources(workers, cpus_per_run, gpus_per_run, ray_address)
            problems = run_in_parallel(
                tables,
                resources,
                data_dir=data_dir,
                output_dir=output_dir,
                hours=hours,
                tell=click.echo,
            )
        for table in [] if workers else tables:
            left = None if hours is None else max(0.0, hours - (monotonic() - started) / 3600)
            found = run(
                table, data_dir=data_dir, output_dir=output_dir, hours=left, tell=click.echo
            )
            for problem, names in found.items():
                problems.setdefault(problem, []).extend(names)
    parts = [head] if head else []
    for table in tables:
        filled = fill_table(table, output_dir=output_dir, problems=problems)
        parts.append(render_table(table, filled, markdown=markdown))
        if figures:
            from kerasfer.tables.figures import draw_figures

            for drawn in draw_figures(table, filled, figures):
                click.echo(f"Drew {drawn}", err=True)
        if record:
            results = {result.name: result for entry in filled for result in entry.results}
            for result in results.values():
                if result.folder:
                    kept = write_summary(result, table.path.parent.parent / "results")
                    click.echo(f"Recorded {kept}", err=True)
    page = "\n".join(parts)
    if output:
        write_text(Path(output), page)
    else:
        click.echo(page, nl=False)
    for problem, names in problems.items():
        click.echo(f"Not run: {', '.join(dict.fromkeys(names))}: {problem}", err=True)
    if problems:
        ctx.exit(1)

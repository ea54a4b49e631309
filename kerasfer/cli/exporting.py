"""kerasfer export."""

import click

from kerasfer.cli.shared import Command, data_dir_option
from kerasfer.text import percent


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(["saved_model", "tflite", "onnx"]),
    required=True,
    help="For TF Serving, for phones, or for onnxruntime.",
)
@click.option(
    "--quantize",
    type=click.Choice(["none", "float16", "dynamic", "int8"]),
    default="none",
    show_default=True,
    help="For tflite: smaller weights, or with int8 also faster integer arithmetic.",
)
@click.option(
    "--output-dir",
    type=click.Path(),
    default="saved_models",
    show_default=True,
    help="Where the exports are, a folder for each name.",
)
@data_dir_option
@click.option(
    "--allow-mismatch", is_flag=True, help="Keep a file that answers otherwise than the model."
)
def export(run, format, quantize, output_dir, data_dir, allow_mismatch):
    """Export the model of a RUN for other programs, and prove that it says the same.

    What was written is loaded by its own runtime and compared with the model on up to 1,000
    pictures of the run's validation split. A file that disagrees is not kept. SavedModels become
    the next version under their name; nothing is overwritten.

    \b
    Examples:
      kerasfer export runs/quickstart --format saved_model
      kerasfer export runs/fer2013_spd --format tflite --quantize int8 --data-dir ~/faces
    """
    from kerasfer.export import export_run

    report = export_run(
        run,
        format,
        quantize,
        output_dir=output_dir,
        data_dir=data_dir,
        allow_mismatch=allow_mismatch,
    )
    click.echo(describe(report))


def describe(report):
    """Writes an export's report as a few aligned lines."""
    lines = {
        "agreement": f"{percent(report['top1_agreement'])}  of {report['num_pictures']:,} "
        f"pictures get the same class; probabilities differ by up to "
        f"{report['max_probability_difference']:.2g}",
    }
    if "accuracy" in report:
        both = report["accuracy"]
        lines["accuracy"] = f"{percent(both['exported'])}  (the model's: {percent(both['model'])})"
    if report["mismatch"]:
        lines["MISMATCH"] = report["mismatch"]
    times = (
        f"{latency['p50']:.1f} / {latency['p95']:.1f} ms"
        + ("" if threads == "default" else f" ({threads} thread{'s' if threads != '1' else ''})")
        for threads, latency in report["latency_ms"].items()
    )
    lines["one face"] = f"{', '.join(times)}: median / 95 % of {report['device']}"
    lines["size"] = f"{report['size_bytes'] / 1e6:.2f} MB"
    lines["exported"] = report["path"]
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())

"""The command `kerasfer export`."""

import click

from kerasfer.cli.shared import Command, data_dir_option
from kerasfer.export.formats import FORMATS, INPUT_DTYPES, INPUT_LAYOUTS, QUANTIZATIONS
from kerasfer.text import percent


@click.command(cls=Command)
@click.argument("run", type=click.Path())
@click.option(
    "--format",
    type=click.Choice(list(FORMATS)),
    help="saved_model for TF Serving, tflite for phones, or onnx.  [required]",
)
@click.option(
    "--quantize",
    type=click.Choice(QUANTIZATIONS),
    default="none",
    show_default=True,
    help="Smaller weights, or with int8 also integer arithmetic. For tflite; float16 and int8 also "
    "for onnx.",
)
@click.option(
    "--output-dir",
    type=click.Path(),
    default="saved_models",
    show_default=True,
    help="Folder of the exports, with one folder per name.",
)
@data_dir_option
@click.option(
    "--pictures",
    metavar="DIR",
    help="Compare on the face crops in this folder instead of the run's pictures, and use them for "
    "the ranges of int8. Write drawn for drawn faces.",
)
@click.option(
    "--opset",
    type=int,
    metavar="N",
    help="Version of ONNX's operator set, from 13 to 18. Older runtimes need a lower one.  "
    "[default: 18]",
)
@click.option(
    "--input-dtype",
    type=click.Choice(INPUT_DTYPES),
    default="float32",
    show_default=True,
    help="Type of the pictures that the file takes. For tflite also uint8, the bytes of a picture.",
)
@click.option(
    "--input-layout",
    type=click.Choice(INPUT_LAYOUTS),
    default="nhwc",
    show_default=True,
    help="Order of the axes of the pictures. For onnx also nchw, with the channels first.",
)
@click.option("--author", metavar="TEXT", help="Author, for the metadata of the file.")
@click.option("--license", metavar="TEXT", help="License, for the metadata of the file.")
@click.option(
    "--benchmark",
    is_flag=True,
    help="Print a table of all formats and quantizations instead, and keep no file.",
)
@click.option(
    "--allow-mismatch", is_flag=True, help="Keep an export that disagrees with the model."
)
def export(
    run,
    format,
    quantize,
    output_dir,
    data_dir,
    pictures,
    opset,
    input_dtype,
    input_layout,
    author,
    license,
    benchmark,
    allow_mismatch,
):
    """Export the model of a RUN, and verify that the export agrees with it.

    The export is loaded by its own runtime and compared with the model on up to 1,000 pictures of
    the run's validation split. An export that disagrees is discarded. A SavedModel becomes the next
    version under its name. Nothing is overwritten.

    Without the dataset of the run, name a folder of face crops with --pictures. RUN may then also
    be a .keras file or the name of a pretrained model. The last resort are drawn faces, which show
    that the export computes what the model computes, but not how accurate it is on photographs.

    \b
    Examples:
      kerasfer export runs/quickstart --format saved_model
      kerasfer export runs/fer2013_spd --format tflite --quantize int8 --data-dir ~/faces
      kerasfer export ferplus_lite0 --format onnx --pictures crops/
      kerasfer export runs/quickstart --benchmark
    """
    if benchmark:
        chosen = (quantize, input_dtype, input_layout) != ("none", "float32", "nhwc")
        if format or opset or author or license or chosen:
            raise click.UsageError(
                "--benchmark exports all formats without further options, so it excludes --format, "
                "--quantize, --opset, --input-dtype, --input-layout, --author and --license."
            )
        from kerasfer.export import benchmark as benchmarks

        results = benchmarks.benchmark(run, data_dir=data_dir, pictures=pictures)
        click.echo(benchmarks.render(results))
        return
    if not format:
        raise click.UsageError("Missing option '--format'. Choose from: " + ", ".join(FORMATS))
    from kerasfer.export import export_run

    report = export_run(
        run,
        format,
        quantize,
        output_dir=output_dir,
        data_dir=data_dir,
        pictures=pictures,
        opset=opset,
        input_dtype=input_dtype,
        input_layout=input_layout,
        author=author,
        license=license,
        allow_mismatch=allow_mismatch,
    )
    click.echo(describe(report))


def describe(report):
    """Formats the report of an export as aligned lines."""
    lines = {
        "agreement": f"{percent(report['top1_agreement'])}  of {report['num_pictures']:,} "
        f"pictures get the same class, and probabilities differ by at most "
        f"{report['max_probability_difference']:.2g}",
    }
    if "accuracy" in report:
        both = report["accuracy"]
        lines["accuracy"] = f"{percent(both['exported'])}  (model: {percent(both['model'])})"
    for dtype, found in report.get("half_precision", {}).items():
        if found["mismatch"]:
            lines[dtype] = f"{found['mismatch']}; force float32 (saved_models/deploy/README.md)"
    if report["mismatch"]:
        lines["mismatch"] = report["mismatch"]
    times = (
        f"{latency['p50']:.1f} / {latency['p95']:.1f} ms"
        + ("" if threads == "default" else f" ({threads} thread{'s' if threads != '1' else ''})")
        for threads, latency in report["latency_ms"].items()
    )
    lines["one face"] = f"{', '.join(times)}, median / 95th percentile, {report['device']}"
    lines["size"] = f"{report['size_bytes'] / 1e6:.2f} MB"
    lines["exported"] = report["path"]
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())

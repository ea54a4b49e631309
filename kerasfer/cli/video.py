"""kerasfer video, kerasfer demo."""

import sys
import threading
import time

import click

from kerasfer.cli.arguments import default_model, faces_option, margin_option, separate_model
from kerasfer.cli.shared import Command, backend_option, detector_option, prepare_keras
from kerasfer.errors import RunError

_PERSONS = 10  # on the terminal; the files have all


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] FILE|CAMERA")
@click.option(
    "--output-dir",
    type=click.Path(),
    help="Where the results are written.  [default: videos/<name of the file>]",
)
@detector_option("if the whole frame is one face")
@click.option(
    "--min-face",
    type=click.IntRange(min=12),
    default=40,
    show_default=True,
    help="Side in pixels of the smallest face to look for; larger is faster.",
)
@margin_option
@click.option(
    "--every", type=click.IntRange(min=1), default=1, help="Look at each n-th frame of a file."
)
@click.option(
    "--max-fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Look at no more frames than this of a second of video.",
)
@click.option(
    "--detect-every",
    type=click.IntRange(min=1),
    default=1,
    help="Search each n-th of these frames for faces; in between, follow their movement.",
)
@click.option(
    "--smoothing",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Seconds over which probabilities are averaged (time constant); 0 for none.",
)
@click.option(
    "--remember",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Seconds after which a person who is not seen is forgotten; one who comes back later "
    "gets another number. Longer suits people who sit still.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), help="Stop after so much video."
)
@click.option(
    "--codec",
    default="mp4v",
    show_default=True,
    help="Of the written video: four letters that your OpenCV knows. Browsers play vp09 and avc1.",
)
@backend_option
def video(arguments, output_dir, backend, **options):
    """Follow the faces of a video or a camera with a trained RUN.

    RUN is as for kerasfer predict. FILE is a video; CAMERA an index (0), a device (/dev/video0) or
    a stream's address (rtsp://…), whose frames are skipped where the work cannot keep up. Ctrl-C
    ends it, with all results complete.

    \b
    Written into a folder of its own:
      video.mp4                      boxes, numbers of the persons, labels and bars
      faces.csv                      a row for each face of each frame
      timeline.html, timeline.png    a row for each person, over time
      summary.json                   the result in numbers
    \b
    Examples:
      kerasfer video runs/quickstart lesson.mp4 --detect-every 5
      kerasfer video runs/quickstart 0 --detector yunet --max-fps 15 --seconds 600
    """
    run, sources = separate_model(arguments)
    if len(sources) != 1:
        raise click.UsageError(
            f"Expected one FILE or CAMERA after the model. Received: {' '.join(sources) or 'none'}."
        )
    (source,) = sources
    prepare_keras(backend)
    from kerasfer.video import watch

    line = _ProgressLine()
    try:
        summary = watch(run, source, output_dir, progress=line, **options)
    finally:
        line.end()
    click.echo(_describe(summary))
    if summary["problem"]:
        raise RunError(f"{summary['problem']} Until there the results are complete.")
    if summary["interrupted"] and not summary["live"]:
        click.echo("Interrupted: until there the results are complete.", err=True)
        click.get_current_context().exit(130)


@click.command(cls=Command)
@click.argument("run", required=False, metavar="[MODEL]")
@faces_option
@margin_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the page is served.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The port it listens on.  [default: 7860, or the next that is free]",
)
@click.option(
    "--max-upload-mb",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Largest picture that is taken.",
)
@backend_option
def demo(run, faces, margin, host, port, max_upload_mb, backend):
    """Show on a web page what a trained RUN sees in faces.

    RUN is as for kerasfer predict. Drop a picture, use the webcam or take a drawn face: the page
    shows the faces, their probabilities and heat maps. It is served to this machine alone, unless
    --host lets others in, loads nothing from elsewhere and reports nothing. Ctrl-C stops it.

    \b
    Example:
      kerasfer demo runs/quickstart
    """
    run = run or default_model()
    prepare_keras(backend)
    from kerasfer.demo import serve

    page, address = serve(
        run, faces=faces, margin=margin, host=host, port=port, max_upload_mb=max_upload_mb
    )
    click.echo(f"The page is at {address}; Ctrl-C stops it.")
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(f"Whoever reaches {host} can use it: nobody is asked for a password.", err=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
    finally:
        page.close(verbose=False)


class _ProgressLine:
    """One line on a terminal that is written over; nothing where the errors go to a file."""

    def __init__(self):
        self._last = float("-inf")
        self._terminal = sys.stderr.isatty()

    def __call__(self, moment, duration, rate):
        if not self._terminal or time.monotonic() - self._last < 0.2:
            return
        self._last = time.monotonic()
        from kerasfer.video.timeline import clock

        share = f"{min(1, moment / duration):4.0%}  " if duration else ""
        whole = f" of {clock(int(duration))}" if duration else ""
        text = f"{share}{clock(int(moment))}{whole}   {rate:.1f} frames a second"
        click.echo(f"\r{text:<60}", nl=False, err=True)

    def end(self):
        if self._last > 0:
            click.echo(err=True)


def _describe(summary):
    """Writes the result of a video as a few aligned lines."""
    from kerasfer.video.timeline import clock

    speed = summary["frames_per_second"]
    skipped = summary["skipped_frames"]
    parts = {"detector": "frames", "model": "faces"}
    lines = {
        "video": f"{clock(summary['seconds'])}, looked at {summary['frames']:,} frames"
        + (f", {skipped:,} skipped to keep up" if skipped else ""),
        "per second": ", ".join(
            [f"{speed['overall']} frames"]
            + [f"{part} alone {speed[part]} {of}" for part, of in parts.items() if speed[part]]
        ),
        "persons": f"{summary['num_persons']:,}",
    }
    for person in sorted(summary["persons"], key=lambda person: -person["seconds"])[:_PERSONS]:
        shares = sorted(person["shares"].items(), key=lambda item: -item[1])[:3]
        lines[f"  person {person['person']}"] = f"{clock(person['seconds']):<8}" + ", ".join(
            f"{name} {share:.0%}" for name, share in shares if share
        )
    lines["results"] = summary["folder"]
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())

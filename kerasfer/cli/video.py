"""The command `kerasfer video`."""

import sys
import time
from functools import partial

import click

from kerasfer.cli.arguments import margin_option, separate_model
from kerasfer.cli.shared import Command, backend_option, detector_option, prepare_keras
from kerasfer.errors import RunError
from kerasfer.text import percent

_PERSONS = 10  # The terminal shows the persons seen longest. The files contain all.


@click.command(cls=Command)
@click.argument("arguments", nargs=-1, required=True, metavar="[MODEL] FILE|CAMERA")
@click.option(
    "--output-dir",
    type=click.Path(),
    help="Folder of the results.  [default: videos/<name of the source>]",
)
@detector_option("if the whole frame is one face")
@click.option(
    "--min-face",
    type=click.IntRange(min=12),
    default=40,
    show_default=True,
    help="Side of the smallest face that is detected, in pixels. A larger value is faster.",
)
@margin_option
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Analyze every n-th frame of a file.",
)
@click.option(
    "--max-fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Maximum number of frames to analyze per second of video.",
)
@click.option(
    "--detect-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Detect faces in every n-th analyzed frame, and predict their boxes in between.",
)
@click.option(
    "--smoothing",
    type=click.FloatRange(min=0),
    default=0.5,
    show_default=True,
    help="Time constant in seconds over which probabilities are averaged. 0 disables smoothing.",
)
@click.option(
    "--remember",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="Seconds after which a person who is not detected is forgotten. A person who reappears "
    "later gets a new number.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop after this many seconds of video.",
)
@click.option(
    "--codec",
    default="mp4v",
    show_default=True,
    help="Codec of the written video, a four-character code that OpenCV supports. Browsers play "
    "vp09 and avc1.",
)
@backend_option
def video(
    arguments,
    output_dir,
    faces,
    min_face,
    margin,
    every,
    max_fps,
    detect_every,
    smoothing,
    remember,
    seconds,
    codec,
    backend,
):
    """Analyze the facial expressions in a video or a camera stream.

    MODEL is as for kerasfer predict. Without it, the default pretrained model is used. FILE is a
    video. CAMERA is an index (0), a device (/dev/video0) or the URL of a stream (rtsp://…). Frames
    of a camera are skipped if the analysis is too slow for them. Ctrl-C stops the analysis, and
    the results up to that point are complete. If the analysis of a file is killed, run the same
    command again to continue it.

    \b
    The output folder contains:
      video.mp4                      the video with boxes, person numbers, labels and bars
      faces.csv                      one row for each face in each frame
      timeline.html, timeline.png    one row over time for each person
      summary.json                   the result in numbers
    \b
    Examples:
      kerasfer video lesson.mp4
      kerasfer video runs/quickstart lesson.mp4 --detect-every 5
      kerasfer video runs/quickstart 0 --detector yunet --max-fps 15 --seconds 600
    """
    run, sources = separate_model(arguments)
    if len(sources) != 1:
        raise click.UsageError(
            f"Expected one FILE or CAMERA after the model. Received: {' '.join(sources)}."
        )
    (source,) = sources
    # Importing the libraries takes seconds, and loading the model takes more.
    from kerasfer.video.writing import check_codec

    check_codec(codec)
    prepare_keras(backend)
    from kerasfer.video import Detection, Frames, Output, Tracking, watch

    line = _ProgressLine()
    try:
        summary = watch(
            run,
            source,
            Output(output_dir, codec, line, partial(click.echo, err=True)),
            frames=Frames(every, max_fps, seconds),
            detection=Detection(faces, min_face, margin, detect_every),
            tracking=Tracking(smoothing, remember),
        )
    finally:
        line.end()
    click.echo(_describe(summary))
    if summary["problem"]:
        raise RunError(f"{summary['problem']} The results up to that point are complete.")
    if summary["interrupted"] and not summary["live"]:
        click.echo("Interrupted: the results up to that point are complete.", err=True)
        click.get_current_context().exit(130)


class _ProgressLine:
    """Shows the progress in one line of a terminal, and nothing if stderr is not a terminal."""

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
        text = f"{share}{clock(int(moment))}{whole}   {rate:.1f} frames per second"
        click.echo(f"\r{text:<60}", nl=False, err=True)

    def end(self):
        if self._last > 0:
            click.echo(err=True)


def _describe(summary):
    """Formats the result of a video as a few aligned lines."""
    from kerasfer.video.timeline import clock

    speed = summary["frames_per_second"]
    skipped = summary["skipped_frames"]
    parts = {"detector": "frames", "model": "faces"}
    lines = {
        "video": f"{clock(summary['seconds'])}, {summary['frames']:,} frames analyzed"
        + (f", {skipped:,} skipped" if skipped else ""),
        "per second": ", ".join(
            [f"{speed['overall']} frames"]
            + [f"{part} only {speed[part]} {of}" for part, of in parts.items() if speed[part]]
        ),
        "persons": f"{summary['num_persons']:,}",
    }
    for person in sorted(summary["persons"], key=lambda person: -person["seconds"])[:_PERSONS]:
        shares = sorted(person["shares"].items(), key=lambda item: -item[1])[:3]
        lines[f"  person {person['person']}"] = f"{clock(person['seconds']):<8}" + ", ".join(
            f"{name} {percent(share, 0)}" for name, share in shares if share
        )
    lines["results"] = summary["folder"]
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())

"""Defines the arguments that predict, explain, video and demo share: the model and the faces."""

from pathlib import Path

import click

from kerasfer.cli.shared import detector_option
from kerasfer.errors import RunError
from kerasfer.runs.folder import RunFolder

MODEL_SUFFIXES = (".keras", ".tflite", ".onnx")

faces_option = detector_option("if each picture is a face crop")
margin_option = click.option(
    "--margin",
    type=click.FloatRange(min=-0.5, max=2.0),
    default=0.0,
    show_default=True,
    help="Margin around a detected face, as a share of its size. It should match the training "
    "pictures of the model.",
)


def separate_model(arguments):
    """Separates the model from the inputs in the arguments of a command.

    The first argument is the model if it looks like one: a folder with a run or an exported model,
    a file with a model's suffix, or the name of a pretrained model. Otherwise all arguments are
    inputs, and the default pretrained model is used.

    Args:
        arguments: Sequence of strings.

    Returns:
        The model, a string, and the remaining arguments.

    Raises:
        click.UsageError: If there are no inputs after the model.
    """
    if arguments and is_model(arguments[0]):
        if len(arguments) == 1:
            raise click.UsageError(
                f"Expected an input after the model {click.format_filename(arguments[0])}, such as "
                "a file. Received: none."
            )
        return arguments[0], tuple(arguments[1:])
    return default_model(), tuple(arguments)


def is_model(argument):
    """Returns whether an argument names a model, without loading it."""
    path = Path(argument)
    if path.is_dir():
        run = RunFolder(path)
        exported = any(any(path.glob(mark)) for mark in ("saved_model.pb", "*/saved_model.pb"))
        return run.exists or run.model.exists() or exported
    if path.suffix.lower() in MODEL_SUFFIXES:
        return True
    from kerasfer.models.pretrained import PRETRAINED

    return argument in PRETRAINED


def default_model():
    """Returns the name of the default pretrained model, and prints which one it is.

    Raises:
        RunError: If no pretrained model is installed.
    """
    from kerasfer.models.pretrained import DEFAULT, PRETRAINED

    if DEFAULT not in PRETRAINED:
        raise RunError("No pretrained model is installed. Name a run folder or a model file.")
    click.echo(f"Using the pretrained model {DEFAULT}.", err=True)
    return DEFAULT

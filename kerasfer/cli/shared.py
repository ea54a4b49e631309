"""Common parts of the commands: error handling, options, the choice of a backend, results."""

import errno
import logging
import os
from importlib.util import find_spec
from typing import get_args

import click

from kerasfer.cli.quiet import import_quietly, import_with_quiet_interrupts
from kerasfer.errors import KerasferError, RecipeError, RunError
from kerasfer.faces import DETECTORS
from kerasfer.options import Backend
from kerasfer.text import percent

# Errors of a disk, of permissions and of paths are not bugs of the program.
_SYSTEM_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.EFBIG,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
)
_VERBOSE = "kerasfer.verbose"


class Command(click.Command):
    """Ends with one line and its exit code, without a traceback, if the user can fix the cause."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if any(parameter.name == "backend" for parameter in self.params):
            self.params.append(_make_verbose_option())

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KerasferError as error:
            raise _one_line(error) from error
        except OSError as error:
            if "temporary directory" in str(error):
                reason = "There is no writable folder for temporary files: name one in $TMPDIR"
                raise _one_line(RunError(f"{reason}, and {_again(ctx)}.")) from error
            if error.errno not in _SYSTEM_ERRORS:
                raise
            place = f" ({error.filename})" if error.filename else ""
            reason = f"{os.strerror(error.errno)}{place}"
            raise _one_line(RunError(f"{reason}: fix this, and {_again(ctx)}.")) from error
        except KeyboardInterrupt:
            click.echo(f"Interrupted: {_again(ctx)}.", err=True)
            ctx.exit(130)


class Group(click.Group):
    command_class = Command
    group_class = type


def _again(ctx):
    if "resume" in ctx.params:
        return "run the same command with --resume to continue from the last checkpoint"
    return "run the same command again"


def _one_line(error):
    failure = click.ClickException(" ".join(str(error).split()))
    failure.exit_code = error.exit_code
    return failure


def _make_verbose_option():
    def remember(ctx, option, verbose):
        ctx.meta[_VERBOSE] = verbose

    return click.Option(
        ["--verbose"],
        is_flag=True,
        expose_value=False,
        callback=remember,
        help="Print the messages of TensorFlow and other libraries.",
    )


set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a key of the recipe, such as train.epochs=1. May be repeated.",
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    envvar="KERASFER_DATA",
    show_envvar=True,
    help="Folder of the datasets, one subfolder each.  [default: data]",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(get_args(Backend)),
    help="Backend of Keras.  [default: the recipe's, then $KERAS_BACKEND, then tensorflow]",
)


def detector_option(none=None):
    """Returns the option that selects the face detector. Commands receive it as `faces`.

    Args:
        none: what the value `none` means for the command; None if the command needs a detector.
    """
    text = "Face detector: mtcnn as in the papers, or yunet, several times faster"
    return click.option(
        "--detector",
        "--faces",
        "faces",
        type=click.Choice([*DETECTORS, "none"] if none else [*DETECTORS]),
        default=next(iter(DETECTORS)),
        show_default=True,
        help=f"{text}; none {none}." if none else f"{text}.",
    )


def prepare_keras(backend):
    """Chooses the backend for the import of Keras that follows, and silences its libraries.

    Args:
        backend: A backend's name, or `None` for `$KERAS_BACKEND`, else TensorFlow.

    Raises:
        RecipeError: If the backend is unknown.
        RunError: If it is not installed.
    """
    backend = backend or os.environ.get("KERAS_BACKEND") or "tensorflow"
    if backend not in get_args(Backend):
        raise RecipeError(
            f"KERAS_BACKEND must be one of {', '.join(get_args(Backend))}. Received: {backend}."
        )
    if find_spec(backend) is None:
        raise RunError(
            f"The backend {backend} is not installed: install it (pip install {backend}), or "
            "choose another with --backend."
        )
    os.environ["KERAS_BACKEND"] = backend
    for library in {backend, "keras"}:
        import_with_quiet_interrupts(library)
    # TensorFlow enables oneDNN on the newest processors only. On older ones a training step of a
    # ResNet is up to five times faster with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    context = click.get_current_context(silent=True)
    if context and context.meta.get(_VERBOSE):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
        return
    # TensorFlow reports a machine without a GPU as an error. Real errors also reach Python.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("GLOG_minloglevel", "3")
    import_quietly("tensorflow")
    for library in ("absl", "jax", "tensorflow"):
        logging.getLogger(library).setLevel(logging.ERROR)


def summary(metrics, reproduces=None):
    """Formats the result of a run as a few aligned lines."""
    low, high = metrics["accuracy_interval"]
    lines = {
        "accuracy": f"{percent(metrics['accuracy'])}  of {metrics['num_samples']:,} pictures; "
        f"95 % interval {percent(low)} to {percent(high)}",
        **_without_duplicates(metrics),
        "macro recall": percent(metrics["macro_recall"]),
        "protocol": f"{metrics['protocol']}, {metrics['dataset']} {metrics['split']}",
    }
    if listed := metrics.get("list"):
        lines["list"] = (
            f"{listed['name']}, {listed['num_listed']:,} pictures, of which {metrics['split']} "
            f"lacks {listed['num_missing']:,}; the list gives another class to "
            f"{listed['num_disagreeing']:,} (the dataset's counts)"
        )
    if metrics.get("sd", {}).get("accuracy") is not None:
        lines["accuracy"] += (
            f"; {metrics['num_folds']} folds: {percent(metrics['mean']['accuracy'])} "
            f"± {percent(metrics['sd']['accuracy'])}"
        )
    if metrics.get("leaking"):
        lines["protocol"] += (
            " (LEAKING: near-identical frames are in training and test; "
            "data.protocol=subjects keeps people apart)"
        )
    if reproduces:
        place = [f"{reproduces.paper} table {reproduces.table}", reproduces.row, reproduces.column]
        lines["paper"] = f"{reproduces.accuracy:.2f} %  {', '.join(filter(None, place))}"
    return "\n".join(f"{name:<14}{line}" for name, line in lines.items())


def _without_duplicates(metrics):
    others = metrics.get("without_duplicates")
    if not others or others["num_samples"] == metrics["num_samples"]:
        return {}
    count = metrics["num_samples"] - others["num_samples"]
    line = f"nothing: all {count:,} pictures were trained on too"
    if others["num_samples"]:
        low, high = others["accuracy_interval"]
        line = (
            f"{percent(others['accuracy'])}  without {count:,} that were trained on too; 95 % "
            f"interval {percent(low)} to {percent(high)}"
        )
    return {"no duplicates": line}

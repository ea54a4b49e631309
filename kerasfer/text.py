"""Formats numbers, durations, suggestions, names and the processor for people, and HTML pages."""

import os
from difflib import get_close_matches


def percent(share, digits=2):
    """Formats a share in [0, 1] as a percentage.

    Example:

    >>> percent(0.6452), percent(0.925, digits=0)
    ('64.52 %', '92 %')
    """
    return f"{100 * share:.{digits}f} %"


def duration(seconds):
    """Formats a duration, given in seconds, with at most two units.

    Example:

    >>> duration(42.4), duration(90), duration(7500)
    ('42 s', '1 min 30 s', '2 h 5 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def did_you_mean(name, known):
    """Suggests the known name that is closest to a misspelled one.

    Args:
        name: What was received.
        known: The valid names.

    Returns:
        A sentence with a leading space, or an empty string if no name is close.

    Example:

    >>> did_you_mean("resnet81", ["resnet18", "vgg16"])
    ' Did you mean resnet18?'
    """
    close = closest(name, known)
    return f" Did you mean {close}?" if close else ""


def closest(name, known):
    """Returns the known name that is closest to a misspelled one, or `None` if none is close.

    Example:

    >>> closest("epoch", ["epochs", "seed"])
    'epochs'
    """
    return next(iter(get_close_matches(str(name), list(known), n=1)), None)


def printable(name):
    """Makes a name printable and encodable as UTF-8.

    Bytes of a file name that are not valid UTF-8, which Python represents by lone surrogates,
    become escapes such as `\\xe9`. Other characters are not changed.

    Args:
        name: A string or a path.

    Example:

    >>> printable(b"caf\\xe9.jpg".decode("utf-8", "surrogateescape"))
    'caf\\\\xe9.jpg'
    """
    text = str(name)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogateescape" if _has_only_escapes(text) else "replace")
        return raw.decode("utf-8", "backslashreplace")
    return text


def _has_only_escapes(text):
    return all("\udc80" <= letter <= "\udcff" for letter in text if "\ud800" <= letter <= "\udfff")


def usable_cores():
    """Returns the number of cores that this process may use, which containers often limit."""
    if hasattr(os, "sched_getaffinity"):  # Not on macOS and Windows.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_cpu():
    """Describes the cores that this process may use, such as "CPU, 2 cores"."""
    cores = usable_cores()
    return f"CPU, {cores} core{'s' * (cores != 1)}"


def load_template(package, name, **filters):
    """Loads a Jinja template of HTML from a package.

    Values are escaped, since names of classes and files come from users, and missing values are
    errors.

    Args:
        package: The name of the package, such as `"kerasfer.report"`.
        name: The name of the file in it.
        **filters: The functions that the template uses as filters.

    Returns:
        A `jinja2.Template`.
    """
    import jinja2  # Takes time that a command line without HTML should not cost.

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)

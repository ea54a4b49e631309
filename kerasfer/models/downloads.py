"""Makes downloads from Hugging Face fail early if there is no network."""

import contextlib
import socket
import urllib.parse
import urllib.request

PATIENCE = 5  # Seconds.


@contextlib.contextmanager
def cached_if_offline():
    """Uses only cached files, without retries, if Hugging Face cannot be reached.

    `huggingface_hub` retries each file for half a minute, also files in its cache.
    """
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not is_reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def is_reachable(url):
    """Returns whether a server accepts connections. With a proxy, returns `True`."""
    address = urllib.parse.urlsplit(url)
    if address.scheme in urllib.request.getproxies():
        return True
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True

"""Serves HTTP on this machine during a test."""

import contextlib
import threading
from http.server import ThreadingHTTPServer


@contextlib.contextmanager
def serving(handler):
    """Serves with a request handler within the block, on a free port.

    Args:
        handler: A subclass of `http.server.BaseHTTPRequestHandler`, or a partial of one.

    Yields:
        The address of the server, without a slash at the end.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

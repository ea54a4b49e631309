"""The command `kerasfer demo`."""

import threading

import click

from kerasfer.cli.arguments import default_model, faces_option, margin_option
from kerasfer.cli.shared import Command, backend_option, prepare_keras


@click.command(cls=Command)
@click.argument("run", required=False, metavar="[MODEL]")
@faces_option
@margin_option
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address that the server listens on. 0.0.0.0 accepts connections from other machines.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port that the server listens on.  [default: the first free port from 7860]",
)
@click.option(
    "--max-upload-mb",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Maximum size of an uploaded picture, in MiB.",
)
@backend_option
def demo(run, faces, margin, host, port, max_upload_mb, backend):
    """Serve a web page that classifies the faces in pictures.

    MODEL is as for kerasfer predict. Without it, the default pretrained model is used. Upload a
    picture, use the webcam or choose a synthetic face: the page shows the detected faces with
    their probabilities and heat maps. By default, only this machine can open the page. The page
    loads no resources from other servers and sends no usage data. Ctrl-C stops the server.

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
    click.echo(f"Serving the page at {address} (press Ctrl-C to stop).")
    if host not in ("127.0.0.1", "localhost", "::1"):
        click.echo(
            "The page has no password: everyone who can reach this machine can use it.", err=True
        )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
    finally:
        page.close(verbose=False)

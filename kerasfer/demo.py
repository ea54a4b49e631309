"""A web page that detects the faces in a picture, classifies them and shows heat maps.

The page loads no resources from other servers and sends no usage data. Uploaded pictures are
deleted after one hour.
"""

import base64
import io
import os
import tempfile
import threading
from abc import ABCMeta
from pathlib import Path

import numpy as np
from PIL import Image

from kerasfer.data.pictures import read_picture, resize
from kerasfer.data.synthetic import draw_face
from kerasfer.errors import DataError, RunError
from kerasfer.predict import Predictor
from kerasfer.predict.drawing import draw, upscale
from kerasfer.text import load_template, percent
from kerasfer.video.timeline import class_colors

MAX_CARDS = 12  # Faces with a card. The picture shows the boxes of all faces.
MAX_QUEUE = 20  # Visitors in the queue.
KEPT_SECONDS = 3600  # Time until an upload is deleted.
MAX_SESSIONS = 2 * MAX_QUEUE  # Sessions whose last result Gradio keeps, 50 kB each.
MAX_SIDE = 2400  # Side of the picture with boxes, in pixels.
EXAMPLES = (("happy", 12), ("surprise", 8), ("angry", 3), ("sad", 15), ("disgust", 5), ("fear", 33))
MOST_PROBABLE = "the most probable expression"
_TILE = 168  # Side of a face and of its heat map, in pixels.
_START = "The detected faces are shown here."


def build_demo(run, *, faces="mtcnn", margin=0.0):
    """Builds the page as a Gradio app.

    Args:
        run: As in `kerasfer.predict.Predictor`, or a `Predictor`. An exported model has no
            gradients, so the page shows no heat maps for it.
        faces: As in `Predictor`.
        margin: As in `Predictor`.

    Returns:
        A `gradio.Blocks`.

    Raises:
        RunError: If the model cannot be loaded, or Gradio is not installed.

    Example:

    ```python
    build_demo("runs/quickstart").launch()
    ```
    """
    gr = _import_gradio()
    predictor = run if isinstance(run, Predictor) else Predictor(run, faces=faces, margin=margin)
    lock = threading.Lock()

    def look(upload, explained):
        # The queue of Gradio limits the visitors of the page, but not direct requests.
        with lock:
            return _classify_upload(predictor, upload, explained)

    with gr.Blocks(
        title=f"kerasfer: {predictor.runtime.path.stem}",
        analytics_enabled=False,
        delete_cache=(600, KEPT_SECONDS),
    ) as demo:
        gr.Markdown("# Facial expression recognition\n" + _introduction(predictor))
        with gr.Row():
            with gr.Column(scale=4):
                upload = _picture_class(gr)(
                    label="Picture",
                    sources=["upload", "webcam", "clipboard"],
                    height=340,
                    elem_id="upload",
                    buttons=[],
                )
                explained = gr.Dropdown(
                    [MOST_PROBABLE, *predictor.class_names],
                    value=MOST_PROBABLE,
                    label="Heat map of",
                    visible=predictor.runtime.model is not None,
                    elem_id="explained",
                )
                with tempfile.TemporaryDirectory() as folder:
                    gr.Examples(  # Gradio copies the files.
                        _draw_examples(folder, predictor),
                        upload,
                        label="Synthetic faces",
                        cache_examples=False,
                    )
            with gr.Column(scale=5):
                seen = gr.Image(
                    label="Faces",
                    interactive=False,
                    height=340,
                    format="png",
                    elem_id="seen",
                    buttons=["download", "fullscreen"],
                )
                cards = gr.HTML(_render(notes=[_START]), elem_id="cards", padding=False)
        # The model serves one visitor at a time, and the other visitors wait in the queue.
        options = {"inputs": [upload, explained], "outputs": [seen, cards]}
        options |= {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        upload.change(look, show_progress="minimal", **options)
        explained.change(look, show_progress="minimal", **options)
    demo.queue(max_size=MAX_QUEUE)
    return demo


def describe(predictor, picture, explained=None):
    """Detects and classifies the faces in a picture and renders the results.

    Args:
        predictor: A `Predictor`.
        picture: uint8 RGB `(height, width, 3)`.
        explained: The name of the class that the heat maps explain. `None` selects the most
            probable class of each face.

    Returns:
        The picture with boxes, uint8 RGB, and the HTML with a card for each face.
    """
    (found,) = predictor([picture])
    if not found:
        note = "No face was found. A face should look at the camera and be at least 20 pixels wide."
        return _limit(picture), _render(notes=[note])
    shown = found[:MAX_CARDS]
    heats, reason = _heat_maps(predictor, shown, explained)
    notes = [reason] if reason else []
    if hidden := len(found) - len(shown):
        notes.insert(0, f"{hidden} smaller faces are shown only in the picture.")
    cards = [_card(one, heat) for one, heat in zip(shown, heats, strict=True)]
    colors = class_colors(predictor.class_names)
    return _limit(draw(picture, found)), _render(cards, notes, colors=colors)


def serve(run, *, faces="mtcnn", margin=0.0, host="127.0.0.1", port=None, max_upload_mb=20):
    """Starts a server for the page in the background.

    Args:
        run: As in `build_demo`.
        faces: As in `build_demo`.
        margin: As in `build_demo`.
        host: The address that the server listens on. `"0.0.0.0"` accepts connections from other
            machines.
        port: The port. `None` selects the first free port from 7860.
        max_upload_mb: The maximum size of an uploaded picture, in MiB.

    Returns:
        The `gradio.Blocks`, whose `close` method stops the server, and the URL of the page.

    Raises:
        RunError: As in `build_demo`, or if the server cannot listen on the host and port.
    """
    gr = _import_gradio()
    demo = build_demo(run, faces=faces, margin=margin)
    try:
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{max_upload_mb}mb",
            state_session_capacity=MAX_SESSIONS,
            theme=gr.themes.Default(
                primary_hue="blue",
                # The default fonts are loaded from another server.
                font=["system-ui", "sans-serif"],
                font_mono=["ui-monospace", "monospace"],
            ),
            footer_links=[],
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        place = f"{host}:{port}" if port else host
        raise RunError(
            f"Cannot listen on {place}: {' '.join(str(error).split())} Choose another --host or "
            "--port."
        ) from error
    return demo, address


def _classify_upload(predictor, upload, explained):
    """Returns the picture with boxes, or `None`, and HTML."""
    if upload is None:
        return None, _render(notes=[_START])
    path, name = upload
    try:
        picture = read_picture(path, remedy="Use a JPEG, PNG, WebP, BMP or TIFF picture.")
    except DataError as error:
        # Visitors must not see paths of the server.
        return None, _render(notes=[str(error).replace(str(path), name)], alert=True)
    return describe(predictor, picture, None if explained == MOST_PROBABLE else explained)


def _picture_class(gr):
    """Makes a subclass of `gradio.Image` that returns the uploaded file and its original name.

    `gradio.Image` opens the file itself, and the page shows no message if that fails.
    """

    def preprocess(self, payload):
        return None if payload is None else (payload.path, payload.orig_name or "This file")

    members = {"preprocess": preprocess, "is_template": True}  # The browser treats it as an Image.
    # For a class statement, the metaclass of Gradio writes a .pyi file next to this file.
    return ABCMeta.__new__(type(gr.Image), "Picture", (gr.Image,), members)


def _heat_maps(predictor, found, explained):
    """Returns a heat map for each face and `None`, or a `None` for each face and the reason."""
    runtime, nothing = predictor.runtime, [None] * len(found)
    if runtime.model is None:
        return nothing, (
            f"Heat maps are not available: they need gradients, which {runtime.path.name} "
            f"({runtime.kind}) does not support. Start the page with the run that it was exported "
            "from."
        )
    from kerasfer.explain import NoFeatureMap, heat_map  # Imports Keras, which exports do not need.

    crops = np.stack([one.crop for one in found]).astype("float32")
    classes = None
    if explained is not None:
        classes = np.full(len(found), predictor.class_names.index(explained))
    try:
        return heat_map(runtime.model, crops, classes), None
    except NoFeatureMap as error:
        return nothing, f"Heat maps are not available: {error}"


def _card(prediction, heat):
    """Returns the values that the template shows for one face."""
    return {
        "crop": _data_uri(prediction.crop),
        "heat_map": None if heat is None else _data_uri(_overlay(prediction.crop, heat)),
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": dict(
            zip(prediction.class_names, prediction.probabilities.tolist(), strict=True)
        ),
    }


def _overlay(crop, heat):
    from kerasfer.explain import overlay  # Imports Keras, which exports do not need.

    size = max(_TILE, len(crop))
    large = Image.fromarray(heat).resize((size, size), Image.Resampling.BICUBIC)
    return overlay(resize(crop, size), np.asarray(large).clip(0, 1))


def _data_uri(picture):
    file = io.BytesIO()
    Image.fromarray(upscale(picture, _TILE)).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def _render(cards=(), notes=(), *, colors=None, alert=False):
    """Renders HTML from the values of `_card` and a list of sentences."""
    template = load_template("kerasfer", "demo.html.jinja", percent=percent)
    return template.render(cards=cards, notes=notes, colors=colors, alert=alert)


def _limit(picture):
    """Shrinks a picture that exceeds `MAX_SIDE`."""
    image = Image.fromarray(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return np.asarray(image)


def _introduction(predictor):
    name = predictor.runtime.path
    name = name.parent.name if name.name == "model.keras" else name.stem
    whole = " It classifies the whole picture as one face." if predictor.detect is None else ""
    return (
        f"The model **{_plain(name)}** distinguishes {_plain(', '.join(predictor.class_names))}."
        f"{whole} Pictures are processed on the machine that serves this page."
    )


def _plain(text):
    """Escapes the special characters of Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-!|<>~$" else c for c in text)


def _draw_examples(folder, predictor):
    """Draws example faces into a folder, and a group of three if a detector is used."""
    drawn = [draw_face(np.random.default_rng(seed), name, 256) for name, seed in EXAMPLES]
    pictures = {name: face for (name, _), face in zip(EXAMPLES, drawn, strict=True)}
    if predictor.detect is not None:
        pictures["group"] = np.concatenate(drawn[:3], axis=1)
    paths = []
    for name, picture in pictures.items():
        paths.append([str(Path(folder) / f"{name}.png")])
        Image.fromarray(picture).save(paths[-1][0])
    return paths


def _import_gradio():
    # Gradio reads this variable on import. It would send usage data on every start.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise RunError('The demo needs Gradio. Run pip install "kerasfer[demo]".') from error
    return gradio

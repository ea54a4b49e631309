"""A page in the browser: drop a picture, see its faces, what they express, and where that is seen.

All stays on this machine: the page loads nothing from elsewhere, nothing is reported or shared, and
what was uploaded is deleted within the hour.
"""

import base64
import html
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
from kerasfer.text import percent
from kerasfer.video.timeline import class_colors

MOST_FACES = 12  # that are shown one by one; all are in the picture
MOST_WAITING = 20  # visitors in the queue
KEPT_SECONDS = 3600
LONGEST_SIDE = 2400  # of the picture with boxes, in pixels
EXAMPLES = (("happy", 12), ("surprise", 8), ("angry", 3), ("sad", 15), ("disgust", 5), ("fear", 33))
_TILE = 168  # pixels; a face and its heat map

_STYLE = """<style>
.fer-note { padding: 14px 16px; border-radius: 10px; border: 1px solid var(--border-color-primary);
  color: var(--body-text-color-subdued); }
.fer-alert { border: 1px solid #d2580b; border-left-width: 6px; color: var(--body-text-color); }
.fer-card { display: flex; flex-wrap: wrap; gap: 14px 18px; align-items: center; padding: 14px 16px;
  margin-bottom: 12px; border-radius: 10px; border: 1px solid var(--border-color-primary);
  background: var(--background-fill-primary); }
.fer-card figure { margin: 0; } .fer-card figcaption { font-size: 12px;
  color: var(--body-text-color-subdued); text-align: center; margin-top: 4px; }
.fer-card img { width: 132px; height: 132px; border-radius: 8px; display: block; }
.fer-bars { flex: 1 1 240px; min-width: 220px; font-variant-numeric: tabular-nums; }
.fer-bars h3 { margin: 0 0 8px; font-size: 18px; }
.fer-bar { display: grid; grid-template-columns: 92px 1fr 52px; gap: 10px; align-items: center;
  font-size: 14px; line-height: 1.5; }
.fer-bar span:first-child { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.fer-bar span:last-child { text-align: right; }
.fer-bar i { display: block; height: 10px; min-width: 2px; border-radius: 5px; }
</style>"""


def build_demo(run, *, faces="mtcnn", margin=0.0):
    """Builds the page, to be launched or put into a larger one.

    Args:
        run: As in `kerasfer.predict.Predictor`, or a `Predictor`. Where it is an export, there are
            no gradients and so no heat maps.
        faces: As in `Predictor`.
        margin: As in `Predictor`.

    Returns:
        A `gradio.Blocks`.

    Raises:
        RunError: The model cannot be loaded, or gradio is not installed.

    Example:

    ```python
    build_demo("runs/quickstart").launch()
    ```
    """
    gr = _import_gradio()
    predictor = run if isinstance(run, Predictor) else Predictor(run, faces=faces, margin=margin)
    names = predictor.class_names

    turn = threading.Lock()

    def look(upload, explained):
        # Gradio's limit counts the visitors of the page only, not those who post to its endpoint.
        with turn:
            return _look(upload, explained)

    def _look(upload, explained):
        if upload is None:
            return None, _note("The faces appear here.")
        path, name = upload
        try:
            picture = read_picture(path, remedy="Take a JPEG, PNG, WebP, BMP or TIFF picture.")
        except DataError as error:
            # The place of the file on this machine is nobody's business.
            return None, _note(str(error).replace(str(path), name), alert=True)
        return describe(predictor, picture, None if explained == MOST_PROBABLE else explained)

    with gr.Blocks(
        title=f"kerasfer: {predictor.runtime.path.stem}",
        analytics_enabled=False,
        delete_cache=(600, KEPT_SECONDS),
    ) as demo:
        gr.Markdown("# What does this face express?\n" + _introduction(predictor))
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
                    [MOST_PROBABLE, *names],
                    value=MOST_PROBABLE,
                    label="Heat map of",
                    visible=predictor.runtime.model is not None,
                    elem_id="explained",
                )
                with tempfile.TemporaryDirectory() as folder:
                    gr.Examples(  # copies them
                        _draw_examples(folder, predictor),
                        upload,
                        label="Drawn faces",
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
                cards = gr.HTML(
                    _STYLE + _note("The faces appear here."), elem_id="cards", padding=False
                )
        # One model, one visitor at a time; the others wait for their turn.
        options = {"inputs": [upload, explained], "outputs": [seen, cards]}
        options |= {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        upload.change(look, show_progress="minimal", **options)
        explained.change(look, show_progress="minimal", **options)
    demo.queue(max_size=MOST_WAITING)
    return demo


MOST_PROBABLE = "the most probable expression"


def describe(predictor, picture, explained=None):
    """Finds and judges the faces of a picture, for the page.

    Args:
        predictor: `Predictor`.
        picture: uint8 RGB `(height, width, 3)`.
        explained: Name of the class that heat maps are for; None for each face's own.

    Returns:
        The picture with boxes, uint8 RGB, and HTML with a card for each face.
    """
    (found,) = predictor([picture])
    if not found:
        text = "No face was found. Faces should look at the camera and be 20 pixels wide or more."
        return _limit(picture), _note(text)
    shown = found[:MOST_FACES]
    heats, why = _heat_maps(predictor, shown, explained)
    parts = [_card(one, heat) for one, heat in zip(shown, heats, strict=True)]
    if len(found) > len(shown):
        parts.append(_note(f"{len(found) - len(shown)} smaller faces are in the picture only."))
    if why:
        parts.append(_note(why))
    return _limit(draw(picture, found)), _STYLE + "".join(parts)


def serve(run, *, faces="mtcnn", margin=0.0, host="127.0.0.1", port=None, max_upload_mb=20):
    """Serves the page until `close` is called on what it returns.

    Args:
        run, faces, margin: As in `build_demo`.
        host: Where it listens; `"0.0.0.0"` lets other machines in.
        port: None for 7860, or the next that is free.
        max_upload_mb: Largest picture in MiB.

    Returns:
        The `gradio.Blocks`, and the page's address.

    Raises:
        RunError: As `build_demo`; or the port or host cannot be had.
    """
    gr = _import_gradio()
    demo = build_demo(run, faces=faces, margin=margin)
    try:
        _, address, _ = demo.launch(
            server_name=host,
            server_port=port,
            max_file_size=f"{max_upload_mb}mb",
            theme=gr.themes.Default(
                primary_hue="blue",
                # Others would be fetched, or are shipped for another look.
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


def _picture_class(gr):
    """Makes a `gradio.Image` that hands on the uploaded file, with what the user calls it.

    Gradio's own opens it, and what is no picture ends in an error without a word on the page.
    """

    def preprocess(self, payload):
        return None if payload is None else (payload.path, payload.orig_name or "This file")

    members = {"preprocess": preprocess, "is_template": True}  # to the browser it is an Image
    # Not by a class statement, which Gradio answers by writing a .pyi file beside this one.
    return ABCMeta.__new__(type(gr.Image), "Picture", (gr.Image,), members)


def _heat_maps(predictor, found, explained):
    """Returns a heat map for each face, or Nones and a sentence why there are none."""
    runtime, nothing = predictor.runtime, [None] * len(found)
    if runtime.model is None:
        return nothing, (
            f"No heat maps: they need gradients, which {runtime.path.name} ({runtime.kind}) does "
            "not have. Start the page with the run it was exported from."
        )
    from kerasfer.explain import NoFeatureMap, heat_map  # needs Keras, which exports do not

    crops = np.stack([one.crop for one in found]).astype("float32")
    classes = None
    if explained is not None:
        classes = np.full(len(found), predictor.class_names.index(explained))
    try:
        return heat_map(runtime.model, crops, classes), None
    except NoFeatureMap as error:
        return nothing, f"No heat maps: {error}"


def _card(prediction, heat):
    """Writes what one face shows as HTML: the face, where it is seen, and a bar a class."""
    face = _figure(prediction.crop, "what the model sees")
    if heat is not None:
        from kerasfer.explain import overlay

        size = max(_TILE, len(prediction.crop))
        large = np.asarray(
            Image.fromarray(heat).resize((size, size), Image.Resampling.BICUBIC)
        ).clip(0, 1)
        face += _figure(overlay(resize(prediction.crop, size), large), "where it looks", "heat map")
    colors = class_colors(prediction.class_names)
    bars = "".join(
        f'<div class="fer-bar"><span>{html.escape(name)}</span>'
        f'<span><i style="width: {100 * value:.1f}%; background: {colors[name]}"></i></span>'
        f"<span>{percent(value, 0)}</span></div>"
        for name, value in zip(prediction.class_names, prediction.probabilities, strict=True)
    )
    title = f"{html.escape(prediction.label)} {percent(prediction.probability, 0)}"
    return f'<div class="fer-card">{face}<div class="fer-bars"><h3>{title}</h3>{bars}</div></div>'


def _figure(picture, caption, alternative="face"):
    file = io.BytesIO()
    Image.fromarray(upscale(picture, _TILE)).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<figure><img alt="{alternative}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _note(text, alert=False):
    kind, role = ("fer-note fer-alert", "alert") if alert else ("fer-note", "status")
    return f'{_STYLE}<div class="{kind}" role="{role}">{html.escape(text)}</div>'


def _limit(picture):
    """Shrinks a picture that no screen shows in full."""
    image = Image.fromarray(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return np.asarray(image)


def _introduction(predictor):
    name = predictor.runtime.path
    name = name.parent.name if name.name == "model.keras" else name.stem
    whole = " The whole picture is taken for the face." if predictor.detect is None else ""
    return (
        f"The model **{_plain(name)}** knows: {_plain(', '.join(predictor.class_names))}.{whole} "
        "Pictures stay on the machine that runs it."
    )


def _plain(text):
    """Escapes what Markdown would format."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-!|<>~$" else c for c in text)


def _draw_examples(folder, predictor):
    """Draws faces into a folder; the last picture has three, where faces are looked for."""
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
    # Read when it is imported: it would tell its makers of each start.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import gradio
    except ImportError as error:
        raise RunError('The page needs gradio: pip install "kerasfer[demo]".') from error
    return gradio

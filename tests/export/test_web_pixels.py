"""The pixels of the web page's crops, compared with Pillow and `kerasfer predict`."""

import base64
import json
import math
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerasfer.data.pictures import shrink
from kerasfer.faces import Face, crop_face

WEB = Path(__file__).parents[2] / "saved_models" / "deploy" / "web"
PROGRAM = """
import { readFileSync } from "node:fs";
const [folder, web] = process.argv.slice(1);
const { cropFace, shrink } = await import(`${web}/faces.js`);
const { reduce, resize, transform } = await import(`${web}/pixels.js`);
const functions = { cropFace, reduce, resize, shrink, transform };
const calls = JSON.parse(readFileSync(`${folder}/calls.json`));
const data = new Uint8Array(readFileSync(`${folder}/picture.raw`));
const results = calls.map(([width, name, ...options]) => {
  const picture = { width, height: data.length / 3 / width, data };
  const result = functions[name](picture, ...options);
  return [result.height, result.width, Buffer.from(result.data).toString("base64")];
});
console.log(JSON.stringify(results));
"""

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed.")


@pytest.fixture
def compute(tmp_path):
    """Returns a function that runs functions of the page on a picture, in Node.js."""

    def run(picture, *calls):
        (tmp_path / "picture.raw").write_bytes(picture.tobytes())
        calls = [[picture.shape[1], *call] for call in calls]
        (tmp_path / "calls.json").write_text(json.dumps(calls))
        command = ["node", "--input-type=module", "--eval", PROGRAM, str(tmp_path), WEB.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [
            np.frombuffer(base64.b64decode(data), "uint8").reshape(height, width, 3)
            for height, width, data in json.loads(done.stdout)
        ]

    return run


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).integers(0, 256, (171, 233, 3), dtype="uint8")


def test_resizing_agrees_with_pillow(compute, noise):
    image = Image.fromarray(noise)
    cases = [
        (48, 48, (0, 0, 233, 171)),
        (233, 90, (0, 0, 233, 171)),
        (100, 171, (0, 0, 233, 171)),
        (300, 500, (0, 0, 233, 171)),
        (64, 64, (10.3, 20.7, 110.9, 121.1)),
        (64, 64, (30.25, 15.5, 60.125, 45.375)),
    ]
    results = compute(noise, *[("resize", width, height, box) for width, height, box in cases])
    for (width, height, box), result in zip(cases, results, strict=True):
        expected = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
        np.testing.assert_array_equal(result, np.asarray(expected))


def test_averaging_agrees_with_pillow(compute, noise):
    results = compute(noise, *[("reduce", factor) for factor in (2, 3, 4, 5, 7)])
    for factor, result in zip((2, 3, 4, 5, 7), results, strict=True):
        np.testing.assert_array_equal(result, np.asarray(Image.fromarray(noise).reduce(factor)))


def test_affine_maps_agree_with_pillow(compute, noise):
    cos, sin = 1.7 * math.cos(0.3), 1.7 * math.sin(0.3)
    matrices = [(cos, -sin, 20.5, sin, cos, 10.25), (cos, sin, -9.5, -sin, cos, 30.0)]
    for matrix, result in zip(
        matrices, compute(noise, *[("transform", 80, matrix) for matrix in matrices]), strict=True
    ):
        expected = Image.fromarray(noise).transform(
            (80, 80), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
        )
        np.testing.assert_array_equal(result, np.asarray(expected))


@pytest.mark.parametrize("longest", [100, 57, 30])
def test_shrinking_agrees_with_predict(compute, noise, longest):
    (result,) = compute(noise, ("shrink", longest))
    np.testing.assert_array_equal(result, shrink(noise, longest))


def test_crops_agree_with_predict(compute, noise):
    def face(x, y, width, height, angle):
        eyes = [[-10 * math.cos(angle), -10 * math.sin(angle)], [0, 0]]
        landmarks = np.array([*eyes, [0, 5], [-5, 10], [5, 10]]) + [x + width / 2, y + height / 2]
        return Face((x, y, width, height), 0.9, landmarks)

    cases = [
        (face(60.3, 40.2, 70.5, 80.25, 0), 48, 0),
        (face(60.3, 40.2, 70.5, 80.25, 0.2), 48, 0.3),
        (face(60.3, 40.2, 70.5, 80.25, -0.4), 16, 0),  # averages pixels first
        (face(-20.5, 110.25, 60, 90, 0.1), 32, -0.2),  # reaches beyond the picture
        (face(190, -15, 60, 60, 0), 96, 0.1),
    ]
    results = compute(
        noise,
        *[
            ("cropFace", {"box": f.box, "landmarks": f.landmarks.tolist()}, size, margin)
            for f, size, margin in cases
        ],
    )
    for (one, size, margin), result in zip(cases, results, strict=True):
        expected = crop_face(noise, one, size, margin=margin).astype(int)
        # An interpolated value may lie on the border of two integers.
        assert abs(result - expected).max() <= 1
        assert (result != expected).mean() < 0.001

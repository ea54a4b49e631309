"""Face detection: kerasfer's detectors against facenet-pytorch's MTCNN, same smallest face.

python tests/benchmarks/face_detection.py [--threads 2] [--turns 15] [--folder PICTURES]

The pictures are drawn: faces of several sizes on a background of blurred noise. --folder measures
the pictures of a folder instead, each of them in turn. The peer needs the packages facenet-pytorch
and torchvision, which the `test` extra does not install.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image
from race import parse, print_header, print_pair, race

MIN_FACE = 20  # pixels
SCENES = {"640 × 480, 2 faces": (640, 480, (240, 120)), "1280 × 960, 10 faces": (1280, 960, None)}
SIDES = (220, 200, 180, 160, 140, 120, 110, 100, 90, 80)  # of the drawn pictures; 0.7 are face


def draw_scene(width, height, sides):
    """Draws faces, left to right and top to bottom, on a background of noise at several scales."""
    from kerasfer.data.synthetic import CLASS_NAMES, draw_face

    rng = np.random.default_rng(0)
    layers = []
    for grain in (4, 12, 40, 160):
        noise = rng.integers(0, 256, (height // grain, width // grain, 3), dtype="uint8")
        layers.append(np.asarray(Image.fromarray(noise).resize((width, height)), float))
    scene = np.mean(layers, axis=0).astype("uint8")
    sides = sides or SIDES
    columns = min(5, len(sides))
    rows = -(-len(sides) // columns)
    for number, side in enumerate(sides):
        face = draw_face(rng, CLASS_NAMES[number % len(CLASS_NAMES)], side)
        top = (2 * (number // columns) + 1) * height // (2 * rows) - side // 2
        left = (2 * (number % columns) + 1) * width // (2 * columns) - side // 2
        scene[top : top + side, left : left + side] = face
    return scene


def load_pictures(folder):
    from kerasfer.data.pictures import list_pictures, read_picture

    return [read_picture(path) for path in list_pictures(Path(folder))]


def in_turn(detect, pictures):
    """Returns a function that searches the next picture with each call, and the boxes of all."""
    turn = 0

    def step():
        nonlocal turn
        detect(pictures[turn % len(pictures)])
        turn += 1

    return step, {"boxes": [detect(picture) for picture in pictures]}


def ours(detector, scene, folder):
    from kerasfer.faces import make_detector

    find = make_detector(detector, min_face=MIN_FACE)

    def detect(picture):
        return np.array([face.box for face in find(picture)]).reshape(-1, 4)

    return in_turn(detect, load_pictures(folder) if folder else [draw_scene(*scene)])


def facenet(scene, folder):
    from facenet_pytorch import MTCNN

    find = MTCNN(min_face_size=MIN_FACE, keep_all=True, device="cpu")

    def detect(picture):
        boxes, _ = find.detect(picture)
        boxes = np.empty((0, 4)) if boxes is None else np.asarray(boxes, float)
        return np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]

    return in_turn(detect, load_pictures(folder) if folder else [draw_scene(*scene)])


def count_matches(pictures, others):
    """Counts boxes that overlap with one of the other detector, by an IoU of at least 0.5."""
    matches = 0
    for boxes, references in zip(pictures, others, strict=True):
        for box in boxes:
            sides = np.minimum(box[:2] + box[2:], references[:, :2] + references[:, 2:])
            sides = np.maximum(sides - np.maximum(box[:2], references[:, :2]), 0)
            shared = sides.prod(1)
            union = box[2:].prod() + references[:, 2:].prod(1) - shared
            matches += bool((shared >= 0.5 * union).any())
    return matches


if __name__ == "__main__":
    options = parse(__doc__, folder=None)
    if not (find_spec("facenet_pytorch") and find_spec("torchvision")):
        sys.exit("The peer is missing: pip install --no-deps facenet-pytorch, and torchvision.")
    print_header(options.threads)
    scenes = {options.folder: None} if options.folder else SCENES
    for title, scene in scenes.items():
        place = {"scene": scene, "folder": options.folder}
        contestants = {"facenet-pytorch": (facenet, place)}
        for detector in ("mtcnn", "yunet"):
            contestants[detector] = (ours, place | {"detector": detector})
        results = race(contestants, threads=options.threads, turns=options.turns)
        theirs = results["facenet-pytorch"]
        print(title)
        for detector in ("mtcnn", "yunet"):
            mine = results[detector]
            print_pair(f"  {detector}", mine, theirs)
            boxes, others = (result.facts["boxes"] for result in (mine, theirs))
            print(
                f"{'':<33}faces {sum(map(len, boxes))}, of the peer {sum(map(len, others))}, "
                f"in common {count_matches(boxes, others)}"
            )

"""Cost of `kerasfer video`: frames per second, and memory over time, on drawn faces that move.

The film is drawn first: --seconds of it at --fps, with three persons who change their expression
and leave now and then. The memory at the end is compared with the memory after a third.

    python tests/benchmarks/video.py [--run RUN] [--seconds 600] [--fps 5] [--detect-every 5]
        [--detector mtcnn] [--size 320x180]

Without --run the model is a covpool at 48 px with random weights. For a camera of 640 × 480 pixels
at 15 frames a second use --seconds 60 --fps 15 --detect-every 1 --detector yunet --size 640x480.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from race import parse

PARTS = 12


def write_film(path, size, seconds, fps):
    from kerasfer.data.synthetic import CLASS_NAMES, draw_face
    from kerasfer.video.writing import VideoWriter

    (width, height), unit = size, size[1] / 180
    side = round(110 * unit)
    faces = [
        [draw_face(np.random.default_rng(seed), name, side, intensity=1.0) for name in CLASS_NAMES]
        for seed in (3, 8, 15)
    ]
    writer = VideoWriter(path, size, fps)
    for step in range(round(seconds * fps)):
        moment = step / fps
        frame = np.full((height, width, 3), 90, "uint8")
        for number, expressions in enumerate(faces):
            # Out of the picture for a part of each minute.
            step_right = max(0, np.sin(moment / 9 + number) - 0.8) * 5
            x = round(unit * (105 * number + 200 * step_right))
            face = expressions[int(moment / 3 + number) % len(expressions)]
            shown = face[:, : max(0, width - x)]
            y = round(unit * (30 + 20 * np.sin(moment + number)))
            frame[y : y + side, x : x + side] = shown
        writer.write(moment, frame)
    writer.close()


def resident():
    """Memory in use, in MiB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def load(run):
    if run:
        return run
    from kerasfer.data.synthetic import CLASS_NAMES
    from kerasfer.models import covpool
    from kerasfer.predict.runtimes import Runtime

    model = covpool(CLASS_NAMES, 48)
    return Runtime("keras", "random", CLASS_NAMES, 48, model.predict_on_batch, model)


if __name__ == "__main__":
    defaults = {"seconds": 600.0, "fps": 5.0, "detect_every": 5, "detector": "mtcnn"}
    options = parse(__doc__, run=None, size="320x180", **defaults)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from kerasfer.video import Detection, Output, watch

    memory = []

    def progress(moment, duration, rate):
        if moment >= len(memory) * duration / PARTS:
            memory.append(resident())
            print(f"{moment:7.0f} s   {memory[-1]:7.1f} MiB   {rate:5.1f} frames/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        size = tuple(int(side) for side in options.size.split("x"))
        write_film(film, size, options.seconds, options.fps)
        model = load(options.run)
        start, used = time.perf_counter(), time.process_time()
        summary = watch(
            model,
            film,
            Output(Path(folder) / "out", progress=progress),
            detection=Detection(options.detector, every=options.detect_every),
        )
        wall, used = time.perf_counter() - start, time.process_time() - used
    speed = summary["frames_per_second"]
    print(
        f"{summary['frames']} frames, {summary['num_persons']} persons in {wall:.0f} s: "
        f"{speed['overall']} frames/s; detector alone {speed['detector']} frames/s, "
        f"model alone {speed['model']} faces/s; processor time "
        f"{1e3 * used / summary['frames']:.0f} ms a frame, the loading of a --run with it"
    )
    third = memory[len(memory) // 3]
    print(f"memory at the end / after a third: {memory[-1] / third:.3f}")

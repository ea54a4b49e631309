"""What `kerasfer video` takes: frames per second, and memory over time, on drawn faces that move.

The film is made first: --seconds of it at --fps, with three persons who change their expression and
now and then leave. Its peer is itself: the memory at the end, against the memory after a third.

    python tests/benchmarks/video.py [--run RUN] [--seconds 600] [--fps 5] [--detect-every 5]

Without --run the model is a covpool at 48 px with random weights.
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from race import parse

SIZE, SIDE = (320, 180), 110
PARTS = 12


def write_film(path, seconds, fps):
    from kerasfer.data.synthetic import CLASS_NAMES, draw_face
    from kerasfer.video.footage import VideoWriter

    faces = [
        [draw_face(np.random.default_rng(seed), name, SIDE, intensity=1.0) for name in CLASS_NAMES]
        for seed in (3, 8, 15)
    ]
    writer = VideoWriter(path, SIZE, fps)
    for step in range(round(seconds * fps)):
        moment = step / fps
        frame = np.full((SIZE[1], SIZE[0], 3), 90, "uint8")
        for number, expressions in enumerate(faces):
            # Out of the picture for a part of each minute.
            x = round(105 * number + 200 * max(0, np.sin(moment / 9 + number) - 0.8) * 5)
            face = expressions[int(moment / 3 + number) % len(expressions)]
            shown = face[:, : max(0, SIZE[0] - x)]
            y = round(30 + 20 * np.sin(moment + number))
            frame[y : y + SIDE, x : x + SIDE] = shown
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
    options = parse(__doc__, run=None, seconds=600.0, fps=5.0, detect_every=5)
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from kerasfer.video import watch

    memory = []

    def progress(moment, duration, rate):
        if moment >= len(memory) * duration / PARTS:
            memory.append(resident())
            print(f"{moment:7.0f} s   {memory[-1]:7.1f} MiB   {rate:5.1f} frames/s", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        write_film(film, options.seconds, options.fps)
        model = load(options.run)
        start, used = time.perf_counter(), time.process_time()
        summary = watch(
            model,
            film,
            Path(folder) / "out",
            detect_every=options.detect_every,
            progress=progress,
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

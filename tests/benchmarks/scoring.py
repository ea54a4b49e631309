"""How fast `kerasfer predict --workers` is, its memory over time, and whether it survives kills.

First the processes take turns on a part of the pictures: one without Ray, then Ray with each number
of workers. Each rate begins with the first answers, so it excludes the start, whose seconds are
printed as well. For workers it follows from the times of their files of 256 pictures. Then two
workers classify all pictures. A worker is killed after a third of them, the command itself after
two thirds, and a second command continues. At the end every picture must have exactly one row.

    python tests/benchmarks/scoring.py [--pictures 100000] [--part 6000] [--turns 3] [--folder DIR]

The pictures are drawn faces of 96 x 96 pixels in JPEG files. They are removed at the end, unless
they are in --folder. It needs the extra kerasfer[ray], and Linux for /proc.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MODEL, SIDE, QUALITY = "ferplus_lite0", 96, 92
CONTESTANTS = {"one process without Ray": 0, "1 worker": 1, "2 workers": 2}
EACH = 256  # Pictures between two reports, as between two files of a worker.


def draw(folder, number):
    """Draws the pictures that are missing, a thousand in each subfolder."""
    from PIL import Image

    from kerasfer.data.synthetic import CLASS_NAMES, draw_face

    for index in range(number):
        path = folder / f"{index // 1000:03d}" / f"{index:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            face = draw_face(np.random.default_rng([0, index]), CLASS_NAMES[index % 7], SIDE)
            Image.fromarray(face).save(path, quality=QUALITY)


def score(pictures, workers, output):
    """Classifies pictures, and prints a line of JSON whenever some of them are answered."""

    def tell(done, total):
        line = {"done": done, "time": time.monotonic(), "driver": resident(os.getpid())}
        seconds = processor_seconds([os.getpid(), *actors()])
        print(json.dumps(line | {"actors": actors(), "processor": seconds}), flush=True)

    if workers:
        from kerasfer.scale import scoring

        scoring.score(MODEL, pictures, output, workers=workers, faces="none", tell=tell)
        return
    from kerasfer.predict import Predictor
    from kerasfer.scale.scoring import list_inputs

    paths = list_inputs(pictures)
    for done, _ in enumerate(Predictor(MODEL, faces="none").stream(paths), start=1):
        if done % EACH == 0 or done == len(paths):
            tell(done, len(paths))


def resident(pid):
    """Returns the resident memory of a process in MB."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return round(int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)


def processor_seconds(pids):
    """Returns the processor time of processes."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def actors():
    """Returns the resident memory of the workers of Ray, `{process id: MB}`."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::MapWorker" in (folder / "cmdline").read_bytes():
                found[folder.name] = resident(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def follow(pictures, workers, output, watch=None):
    """Runs `score` in another process. Returns its lines, and the seconds until the first one."""
    job = json.dumps([list(map(str, pictures)), workers, str(output)])
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, __file__, "--job", job],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = []
    for line in process.stdout:
        if not line.startswith("{"):  # A message of Ray about a killed worker.
            print(line, end="")
            continue
        lines.append(json.loads(line))
        if watch:
            watch(process, lines[-1])
    process.wait()
    return lines, lines[0]["time"] - started


def rate(lines, files=()):
    """Returns the pictures per second between the first and the last line, or the files."""
    times = [file.stat().st_mtime for file in files] or [line["time"] for line in lines]
    return (lines[-1]["done"] - EACH) / (max(times) - min(times))


def take_turns(pictures, turns, folder):
    rates, costs = ({name: [] for name in CONTESTANTS} for _ in range(2))
    for turn in range(turns):
        for name, workers in CONTESTANTS.items():
            output = folder / f"answers_{turn}_{workers}"
            lines, seconds = follow(pictures, workers, output)
            first, last = lines[0], lines[-1]
            cost = (last["processor"] - first["processor"]) / (last["done"] - first["done"])
            rates[name].append(rate(lines, output.glob("*.parquet")))
            costs[name].append(1000 * cost)
            print(
                f"{name}: {rates[name][-1]:.0f} pictures/s after {seconds:.0f} s, "
                f"{costs[name][-1]:.2f} ms of processor time per picture",
                flush=True,
            )
    alone = np.array(rates["one process without Ray"])
    for name, found in rates.items():
        ratios = np.array(found) / alone
        print(
            f"{name}: median {np.median(found):.0f} pictures/s, {np.median(ratios):.2f} times the "
            f"process without Ray ({ratios.min():.2f} to {ratios.max():.2f}), "
            f"{np.median(costs[name]):.2f} ms of processor time per picture",
            flush=True,
        )


def survive(pictures, number, output):
    """Classifies all pictures with two workers, two kills and a second command."""
    from pyarrow import parquet

    killed, shown = [], [0]

    def watch(process, line):
        if line["done"] >= shown[0]:
            shown[0] += number // 12
            workers = ", ".join(f"{megabytes} MB" for megabytes in line["actors"].values())
            print(f"{line['done']:>7} answered: driver {line['driver']} MB, workers {workers}")
        if line["done"] > number / 3 and not killed:
            killed.append(int(next(iter(line["actors"]))))
            os.kill(killed[0], signal.SIGKILL)
            print(f"{line['done']:>7} answered: killed a worker", flush=True)
        if line["done"] > number * 2 / 3 and len(killed) == 1:
            killed.append(process.pid)
            process.kill()
            print(f"{line['done']:>7} answered: killed the command", flush=True)

    follow(pictures, 2, output, watch)
    second, seconds = follow(pictures, 2, output, watch)
    print(f"continued at {second[0]['done']}, after {seconds:.0f} s")
    rows = parquet.read_table(output, columns=["picture"])["picture"].to_pylist()
    assert len(rows) == len(set(rows)) == number, (len(rows), len(set(rows)), number)
    print(f"{number} pictures, each with one row")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--part", type=int, default=6000, help="pictures of the comparison")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the pictures are drawn, and kept")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        score(*json.loads(options.job))
        sys.exit()
    work = Path(tempfile.mkdtemp())
    try:
        folder = options.folder or work / "faces"
        draw(folder, options.pictures)
        if options.turns:
            part = [folder / f"{index:03d}" for index in range(options.part // 1000)]
            take_turns(part, options.turns, work)
        survive([folder], options.pictures, work / "answers")
    finally:
        shutil.rmtree(work)

"""Measures the start of `kerasfer --help`, compared with an empty Python program.

python tests/benchmarks/startup.py [--turns 10]
"""

import subprocess
import sys
import time

import numpy as np
from race import parse, print_header

TARGET = 0.5  # seconds
PROGRAMS = {
    "kerasfer --help": "from kerasfer.cli import main; main(['--help'], prog_name='kerasfer')",
    "python": "pass",
}


def wall_seconds(program):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    options = parse(__doc__, turns=10)
    print_header(options.threads)
    seconds = {name: [] for name in PROGRAMS}
    for turn in range(options.turns + 1):
        for name, program in PROGRAMS.items():
            taken = wall_seconds(program)
            if turn:  # the first one reads the files from the disk
                seconds[name].append(taken)
    for name, taken in seconds.items():
        print(f"{name:<16} median {np.median(taken):.3f} s, fastest {min(taken):.3f} s")
    print(f"target: {TARGET} s")

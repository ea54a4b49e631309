"""Loads an exported model with its own runtime, and predicts and times pictures with it.

This script runs in a separate process, `python -P probe.py FOLDER`, which imports neither Keras nor
kerasfer. A model that works here works without them, and a crash of the runtime stays isolated.

The folder contains probe_job.json (`format`, `path`, `threads`: a list, `seconds`: how long to
measure a latency) and pictures.npy, and for a SavedModel also pictures as files. The script writes
probabilities.npy and probe.json (latencies, time and memory of loading, versions), and bytes.npy
for a SavedModel that decodes files.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

FIRST = 10  # warm-up runs, in which buffers and kernels are created
MOST = 200
BLOCKED = ("keras", "kerasfer")  # A deployed model must not need them.


def probe(folder):
    """Measures the exported model that the job in a folder names."""
    job = json.loads((folder / "probe_job.json").read_text(encoding="utf-8"))
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    prepare, load = RUNTIMES[job["format"]]
    versions = prepare(job["path"])
    latency, loading = {}, {}
    for threads in job["threads"]:
        before, start = _resident_bytes(), time.perf_counter()
        predict = load(job["path"], threads)
        if not loading:
            loading["load_ms"] = round(1000 * (time.perf_counter() - start), 3)
            predict(np.array(pictures[:1]))
            loading["memory_bytes"] = before and _resident_bytes() - before
            probabilities = [predict(np.array(picture)) for picture in _parts(pictures, predict)]
            np.save(folder / "probabilities.npy", np.concatenate(probabilities))
        latency[str(threads or "default")] = _latency(predict, pictures, job["seconds"])
    if job["format"] == "saved_model":
        _predict_files(predict.signatures, folder)
    used = [name for name in BLOCKED if sys.modules.get(name)]
    if used:
        raise RuntimeError(f"The exported model must run without {', '.join(used)}.")
    result = {"latency": latency, **loading, "versions": versions}
    (folder / "probe.json").write_text(json.dumps(result), encoding="utf-8")


def _parts(pictures, predict):
    size = 1 if predict.__name__ == "one" else 32
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _latency(predict, pictures, seconds):
    """Times single pictures, in milliseconds."""
    times, end = [], time.perf_counter() + seconds
    for run in range(FIRST + MOST):
        picture = np.array(pictures[run % len(pictures)][None])
        start = time.perf_counter()
        predict(picture)
        times.append(1000 * (time.perf_counter() - start))
        if start > end and run > FIRST:
            break
    p50, p95 = np.percentile(times[FIRST:], [50, 95])
    return {"p50": round(p50, 3), "p95": round(p95, 3), "runs": len(times) - FIRST}


def _resident_bytes():
    """Returns the memory of this process, or `None` if the system does not report it."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:  # Not Linux.
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _prepare_tflite(path):
    import ai_edge_litert.interpreter

    return {"ai-edge-litert": ai_edge_litert.__version__}


def _load_tflite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    if any(op["op_name"].startswith("Flex") for op in interpreter._get_ops_details()):
        raise RuntimeError("The file needs TensorFlow's own operations (Flex).")
    run = interpreter.get_signature_runner()
    ((source, described),) = run.get_input_details().items()
    (target,) = run.get_output_details()

    def one(picture):
        return run(**{source: picture.astype(described["dtype"])})[target]

    return one


def _prepare_onnx(path):
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    return {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def _load_onnx(path, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    described = json.loads(session.get_modelmeta().custom_metadata_map["kerasfer.json"])

    def many(pictures):
        if described.get("input_layout") == "nchw":
            pictures = pictures.transpose(0, 3, 1, 2)
        return session.run(None, {source: pictures})[0]

    return many


def _prepare_saved_model(path):
    # TensorFlow imports Keras if it is installed, but a SavedModel must work without it.
    sys.modules.update(dict.fromkeys(BLOCKED))
    import tensorflow as tf

    tf.constant(0)  # Initializes TensorFlow, so that this time is not part of the loading time.
    return {"tensorflow": tf.__version__}


def _load_saved_model(path, threads):
    import tensorflow as tf

    signatures = tf.saved_model.load(path).signatures
    serve = signatures["serving_default"]
    (source,) = serve.structured_input_signature[1]

    def many(pictures):
        return serve(**{source: tf.constant(pictures)})["probabilities"].numpy()

    many.signatures = signatures
    return many


def _predict_files(signatures, folder):
    """Writes bytes.npy, the predictions for files, which the graph of a SavedModel decodes."""
    import tensorflow as tf

    if "serving_bytes" in signatures:
        files = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
        answered = signatures["serving_bytes"](picture_bytes=tf.constant(files))
        np.save(folder / "bytes.npy", answered["probabilities"].numpy())


# The functions that import the runtime of each format and load a file with it.
RUNTIMES = {
    "saved_model": (_prepare_saved_model, _load_saved_model),
    "tflite": (_prepare_tflite, _load_tflite),
    "onnx": (_prepare_onnx, _load_onnx),
}

if __name__ == "__main__":
    probe(Path(sys.argv[1]))

"""Loads an exported file with its target's own runtime and answers pictures with it.

It runs as a script in a process of its own, `python -P probe.py JOB`, which imports neither Keras
nor kerasfer: what answers here answers anywhere, and a runtime that crashes takes nothing with it.

The job is a folder with job.json (`format`, `path`, `threads`: a list, `seconds`: the longest that
a latency may take to measure) and pictures.npy; for a SavedModel also converted.json, with
the names of its tensors, and pictures as files. It gets probabilities.npy and probe.json
(latencies, versions), and for a SavedModel that decodes pictures also bytes.npy.
"""

import ctypes
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np

FIRST = 10  # runs that do not count: buffers and kernels are made in them
MOST = 200


def probe(folder):
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    pictures = np.load(folder / "pictures.npy", mmap_mode="r")
    load = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}[job["format"]]
    latency = {}
    for threads in job["threads"]:
        predict, versions = load(job["path"], threads, folder)
        if not latency:
            probabilities = [predict(np.array(picture)) for picture in _parts(pictures, predict)]
            np.save(folder / "probabilities.npy", np.concatenate(probabilities))
        latency[str(threads or "default")] = _latency(predict, pictures, job["seconds"])
    used = {"keras", "kerasfer"} & set(sys.modules)
    if used:
        raise RuntimeError(f"The exported file must run without {', '.join(used)}.")
    result = {"latency": latency, "versions": versions}
    (folder / "probe.json").write_text(json.dumps(result), encoding="utf-8")


def _parts(pictures, predict):
    size = 1 if predict.__name__ == "one" else 32
    return (pictures[start : start + size] for start in range(0, len(pictures), size))


def _latency(predict, pictures, seconds):
    """Times single pictures: milliseconds, and how many were timed."""
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


def _tflite(path, threads, folder):
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path, num_threads=threads)
    if any(op["op_name"].startswith("Flex") for op in interpreter._get_ops_details()):
        raise RuntimeError("The file needs TensorFlow's own operations (Flex).")
    run = interpreter.get_signature_runner()
    (source,), (target,) = run.get_input_details(), run.get_output_details()

    def one(picture):
        return run(**{source: picture})[target]

    return one, {"ai-edge-litert": ai_edge_litert.__version__}


def _onnx(path, threads, folder):
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name

    def many(pictures):
        return session.run(None, {source: pictures})[0]

    return many, {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def _saved_model(path, threads, folder):
    session = CSession(path)
    tensors = json.loads((folder / "converted.json").read_text(encoding="utf-8"))["tensors"]

    def many(pictures):
        source, target = tensors["serving_default"]
        return session.run(source, session.floats(pictures), target)

    if "serving_bytes" in tensors:
        source, target = tensors["serving_bytes"]
        files = [path.read_bytes() for path in sorted(folder.glob("*.png"))]
        np.save(folder / "bytes.npy", session.run(source, session.strings(files), target))
    return many, {"tensorflow": session.tf.TF_Version().decode()}


class CSession:
    """Runs a SavedModel by TensorFlow's C interface: its C++ loader, as in TF Serving, no Python.

    `import tensorflow` would bring Keras along.
    """

    def __init__(self, path):
        self.tf = TensorFlow()
        self.status = self.tf.TF_NewStatus()
        self.graph = self.tf.TF_NewGraph()
        options, tags = self.tf.TF_NewSessionOptions(), (ctypes.c_char_p * 1)(b"serve")
        self.session = self.tf.TF_LoadSessionFromSavedModel(
            *(options, None, path.encode(), tags, ctypes.c_int(1), self.graph, None, self.status)
        )
        self._check()

    def floats(self, values):
        values = np.ascontiguousarray(values, dtype="float32")
        tensor = self._tensor(1, values.shape, values.nbytes)
        ctypes.memmove(self.tf.TF_TensorData(tensor), values.ctypes.data, values.nbytes)
        return tensor

    def strings(self, values):
        tensor = self._tensor(7, (len(values),), 24 * len(values))  # 24: sizeof(TF_TString)
        for index, value in enumerate(values):
            place = ctypes.c_void_p(self.tf.TF_TensorData(tensor) + 24 * index)
            self.tf.TF_StringInit(place)
            self.tf.TF_StringCopy(place, value, ctypes.c_size_t(len(value)))
        return tensor

    def run(self, source, tensor, target):
        """Computes the float32 tensor named `target` and frees `tensor`."""
        given, asked = self._output(source), self._output(target)
        tensor, answer = ctypes.c_void_p(tensor), ctypes.c_void_p()
        self.tf.TF_SessionRun(
            *(self.session, None),
            *(ctypes.byref(given), ctypes.byref(tensor), ctypes.c_int(1)),
            *(ctypes.byref(asked), ctypes.byref(answer), ctypes.c_int(1)),
            *(None, ctypes.c_int(0), None, self.status),
        )
        self.tf.TF_DeleteTensor(tensor)
        self._check()
        axes = range(self.tf.TF_NumDims(answer))
        shape = [self.tf.TF_Dim(answer, ctypes.c_int(axis)) for axis in axes]
        size = self.tf.TF_TensorByteSize(answer)
        values = np.frombuffer(ctypes.string_at(self.tf.TF_TensorData(answer), size), "float32")
        self.tf.TF_DeleteTensor(answer)
        return values.reshape(shape)

    def _tensor(self, dtype, shape, size):
        dims = (ctypes.c_int64 * len(shape))(*shape)
        return self.tf.TF_AllocateTensor(
            *(ctypes.c_int(dtype), dims, ctypes.c_int(len(shape)), ctypes.c_size_t(size))
        )

    def _output(self, name):
        operation, index = name.split(":")
        found = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise RuntimeError(f"The SavedModel has no operation {operation}.")
        return Output(found, int(index))

    def _check(self):
        if self.tf.TF_GetCode(self.status):
            raise RuntimeError(self.tf.TF_Message(self.status).decode())


class Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class TensorFlow:
    """The functions of TensorFlow's C interface, out of the libraries of its Python package.

    They return pointers, which is what ctypes must be told, but for those named here.
    """

    RETURNS = {
        "TF_Dim": ctypes.c_int64,
        "TF_GetCode": ctypes.c_int,
        "TF_Message": ctypes.c_char_p,
        "TF_NumDims": ctypes.c_int,
        "TF_TensorByteSize": ctypes.c_size_t,
        "TF_Version": ctypes.c_char_p,
    }

    def __init__(self):
        (folder,) = importlib.util.find_spec("tensorflow").submodule_search_locations
        suffix = "{}.2.dylib" if sys.platform == "darwin" else "{}.so.2"
        self.libraries = [
            ctypes.CDLL(str(Path(folder, suffix.format(name))), ctypes.RTLD_GLOBAL)
            for name in ("libtensorflow_framework", "libtensorflow_cc")
        ]

    def __getattr__(self, name):
        library = next(library for library in self.libraries if hasattr(library, name))
        function = getattr(library, name)
        function.restype = self.RETURNS.get(name, ctypes.c_void_p)

        def call(*values):
            # A pointer that came back is an integer, which ctypes would cut to 32 bits.
            return function(*(ctypes.c_void_p(v) if type(v) is int else v for v in values))

        return call


if __name__ == "__main__":
    probe(Path(sys.argv[1]))

"""Runs a SavedModel as TF Serving does, with TensorFlow's C API and without its Python package.

`python c_api.py FOLDER`: the folder has request.json with `library` (a folder), `path` (of the
SavedModel), `input` and `outputs` (names of tensors), and the input as files 000, 001 and so on, or
as pictures.npy. The script writes the outputs to outputs.npz.
"""

import ctypes
import json
import sys
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np

FLOAT, STRING, INT64, BOOL = 1, 7, 9, 10
DTYPES = {FLOAT: "float32", INT64: "int64", BOOL: "bool"}
STRING_SIZE = 24  # Bytes of a TF_TString.


class Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class Session:
    """A session with a loaded SavedModel."""

    def __init__(self, library, path):
        self.tf = tf = ctypes.CDLL(str(Path(library, "libtensorflow_cc.so.2")), ctypes.RTLD_GLOBAL)
        for name, result in {
            "TF_NewStatus": c_void_p,
            "TF_NewGraph": c_void_p,
            "TF_NewSessionOptions": c_void_p,
            "TF_LoadSessionFromSavedModel": c_void_p,
            "TF_GraphOperationByName": c_void_p,
            "TF_AllocateTensor": c_void_p,
            "TF_TensorData": c_void_p,
            "TF_Message": c_char_p,
            "TF_TensorByteSize": c_size_t,
            "TF_Dim": c_int64,
            "TF_StringGetDataPointer": c_void_p,
            "TF_StringGetSize": c_size_t,
        }.items():
            getattr(tf, name).restype = result
        self.status, self.graph = c_void_p(tf.TF_NewStatus()), c_void_p(tf.TF_NewGraph())
        options = c_void_p(tf.TF_NewSessionOptions())
        tags = (c_char_p * 1)(b"serve")
        arguments = (options, None, str(path).encode(), tags, 1, self.graph, None, self.status)
        self.session = c_void_p(tf.TF_LoadSessionFromSavedModel(*arguments))
        self.check()

    def check(self):
        if self.tf.TF_GetCode(self.status):
            raise RuntimeError(self.tf.TF_Message(self.status).decode())

    def run(self, source, tensor, targets):
        """Computes the tensors named `targets` from the one named `source`."""
        given, value = (Output * 1)(self.output(source)), (c_void_p * 1)(tensor)
        asked = (Output * len(targets))(*map(self.output, targets))
        results = (c_void_p * len(targets))()
        self.tf.TF_SessionRun(
            *(self.session, None, given, value, 1, asked, results, len(targets)),
            *(None, 0, None, self.status),
        )
        self.check()
        return [self.to_array(c_void_p(result)) for result in results]

    def output(self, name):
        operation, _, index = name.partition(":")
        found = self.tf.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise RuntimeError(f"The graph has no operation {operation}.")
        return Output(found, int(index))

    def allocate(self, dtype, shape, size):
        sides = (c_int64 * len(shape))(*shape)
        tensor = self.tf.TF_AllocateTensor(dtype, sides, len(shape), c_size_t(size))
        return tensor, self.tf.TF_TensorData(c_void_p(tensor))

    def floats(self, array):
        tensor, place = self.allocate(FLOAT, array.shape, array.nbytes)
        ctypes.memmove(place, array.ctypes.data, array.nbytes)
        return tensor

    def strings(self, values):
        tensor, place = self.allocate(STRING, (len(values),), STRING_SIZE * len(values))
        for index, value in enumerate(values):
            string = c_void_p(place + STRING_SIZE * index)
            self.tf.TF_StringInit(string)
            self.tf.TF_StringCopy(string, value, c_size_t(len(value)))
        return tensor

    def to_array(self, tensor):
        tf = self.tf
        shape = [tf.TF_Dim(tensor, side) for side in range(tf.TF_NumDims(tensor))]
        dtype, place = tf.TF_TensorType(tensor), tf.TF_TensorData(tensor)
        if dtype != STRING:
            content = ctypes.string_at(place, tf.TF_TensorByteSize(tensor))
            return np.frombuffer(content, DTYPES[dtype]).reshape(shape)
        values = []
        for index in range(int(np.prod(shape))):
            string = c_void_p(place + STRING_SIZE * index)
            content = tf.TF_StringGetDataPointer(string)
            values.append(ctypes.string_at(content, tf.TF_StringGetSize(string)))
        return np.array(values).reshape(shape)


def main(folder):
    request = json.loads((folder / "request.json").read_text())
    session = Session(request["library"], request["path"])
    files = sorted(folder.glob("[0-9]*"))
    if files:
        tensor = session.strings([file.read_bytes() for file in files])
    else:
        tensor = session.floats(np.load(folder / "pictures.npy"))
    results = session.run(request["input"], tensor, list(request["outputs"].values()))
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules
    np.savez(folder / "outputs.npz", **dict(zip(request["outputs"], results, strict=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Rewrites the graph of a TFLite file where runtimes on phones support less than the converter.

The converter optimizes across operations, so the changes are made to the finished file.
"""

import copy

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from kerasfer.export.tflite_metadata import ENTRY, describe_classifier

OUTPUT = "probabilities"
OPERATIONS = schema.BuiltinOperator
FLOAT32, INT32, INT64, UINT8 = (
    getattr(schema.TensorType, name) for name in ("FLOAT32", "INT32", "INT64", "UINT8")
)
TYPES = {"float32": FLOAT32, "int32": INT32}
IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT = 16  # in bytes, by the schema of TFLite
STEEP = 2.0**14  # fits into float16; two such factors turn all but tiny numbers into their SIGN


def adapt(content, metadata, input_dtype="float32"):
    """Rewrites a TFLite file so that GPU delegates accept it and its batch can be resized.

    - No operation reads a computed tensor twice, since LiteRT's GPU accelerator would abort.
    - The transpositions that the converter merged into BATCH_MATMUL become separate operations
      again, since the GPU accelerator ignores the flags (LiteRT issue 8913).
    - A constant is the second factor of a product, the only place where the GPU supports it.
    - Constant indices of GATHER are int32.
    - SIGN, which TFLite has had since 2.12, is two clipped products. Numbers below 4e-9 are not ±1.
    - RESHAPE infers the first size, which contains the batch, unless it infers another one.
    - The output is called `probabilities`, in the signature and as a tensor.
    - TFLite's own metadata is added.
    - Equal lists of numbers, such as the zero points of kernels, are stored once.

    Args:
        content: The bytes of a TFLite file with one signature, one input and one output.
        metadata: As in `kerasfer.export.tflite_metadata.describe_classifier`.
        input_dtype: `"float32"`, or `"uint8"` for an input of bytes, which the first operation
            casts to float32.

    Returns:
        The bytes of the new file.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    for graph in model.subgraphs:
        _Rewriting(model, graph).run()
    _drop_unused_codes(model)
    (signature,) = model.signatureDefs
    if input_dtype == "uint8":
        _Rewriting(model, model.subgraphs[signature.subgraphIndex]).take_bytes()
    (source,), (target,) = signature.inputs, signature.outputs
    target.name = OUTPUT.encode()
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    tensors[source.tensorIndex].name = source.name
    tensors[target.tensorIndex].name = target.name
    _add_metadata(model, describe_classifier(metadata, source.name.decode(), OUTPUT))
    return _write(model)


def _write(model):
    builder = _SharingBuilder()
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal arrays once, and aligns the contents of buffers as the schema requires."""

    def __init__(self):
        super().__init__(1 << 20)
        self._arrays = {}

    def CreateNumpyVector(self, x):
        key = x.dtype.str, x.tobytes()
        if key not in self._arrays:
            self._arrays[key] = super().CreateNumpyVector(x)
        return self._arrays[key]

    def StartVector(self, elemSize, numElems, alignment):
        # Only buffers contain vectors of bytes that need an alignment.
        return super().StartVector(
            elemSize, numElems, BUFFER_ALIGNMENT if elemSize == 1 else alignment
        )


def _drop_unused_codes(model):
    """Removes the operations that were replaced, since runtimes reject files that list others."""
    operators = [operator for graph in model.subgraphs for operator in graph.operators]
    used = sorted({operator.opcodeIndex for operator in operators})
    for operator in operators:
        operator.opcodeIndex = used.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in used]


def _add_metadata(model, content):
    entry = schema.MetadataT()
    entry.name = ENTRY.encode()
    entry.buffer = _add_buffer(model, np.frombuffer(content, dtype="uint8"))
    model.metadata = [*(model.metadata or ()), entry]


def _add_buffer(model, values):
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(values.tobytes(), dtype="uint8")
    model.buffers.append(buffer)
    return len(model.buffers) - 1


class _Rewriting:
    """Rewrites the operators of one graph, in their order."""

    def __init__(self, model, graph):
        self.model = model
        self.graph = graph
        self.operators = []

    def run(self):
        for operator in self.graph.operators:
            code = code_of(self.model, operator)
            if code == OPERATIONS.BATCH_MATMUL:
                self._spell_out_transpositions(operator)
                if self._is_constant(operator.inputs[0]):
                    self._swap_factors(operator)
                    continue
            if code == OPERATIONS.SIGN and self._type(operator.inputs[0]) == FLOAT32:
                self._clip_instead_of_sign(operator)
                continue
            if code == OPERATIONS.GATHER:
                operator.inputs[1] = self._as_int32(operator.inputs[1])
            if code == OPERATIONS.RESHAPE:
                self._infer_first_size(operator)
            self._separate_inputs(operator)
            self.operators.append(operator)
        self.graph.operators = self.operators

    def take_bytes(self):
        """Makes the input uint8, and adds a CAST to float32 before the first operator."""
        (source,) = self.graph.inputs
        numbers = self._new_tensor(source, f"{self._name(source)}/float32")
        self.graph.tensors[source].type = UINT8
        for operator in self.graph.operators:
            operator.inputs = [numbers if index == source else index for index in operator.inputs]
        cast = self._add(OPERATIONS.CAST, [source], numbers)
        cast.builtinOptions = schema.CastOptionsT()
        cast.builtinOptions.inDataType, cast.builtinOptions.outDataType = UINT8, FLOAT32
        cast.builtinOptionsType = schema.BuiltinOptions.CastOptions
        self.graph.operators = [*self.operators, *self.graph.operators]

    def _spell_out_transpositions(self, operator):
        options = operator.builtinOptions
        for place, flag in enumerate(("adjX", "adjY")):
            if getattr(options, flag):
                operator.inputs[place] = self._transposed(operator.inputs[place])
                setattr(options, flag, False)

    def _swap_factors(self, operator):
        """Replaces C X, C a constant, by (Xᵀ Cᵀ)ᵀ."""
        constant, computed = operator.inputs
        (result,) = operator.outputs
        operator.inputs = [self._transposed(computed), self._transposed(constant)]
        swapped = self._new_tensor(result, f"{self._name(result)}/swapped", _swapped)
        operator.outputs = [swapped]
        self.operators.append(operator)
        self._transposed(swapped, result)

    def _clip_instead_of_sign(self, operator):
        (source,), (result,) = operator.inputs, operator.outputs
        steep = self._constant("steep", STEEP, "float32")
        between = self._new_tensor(result, f"{self._name(result)}/clipped")
        for before, after in ((source, between), (between, result)):
            options = schema.MulOptionsT()
            options.fusedActivationFunction = schema.ActivationFunctionType.RELU_N1_TO_1
            product = self._add(OPERATIONS.MUL, [before, steep], after)
            product.builtinOptions = options
            product.builtinOptionsType = schema.BuiltinOptions.MulOptions

    def _transposed(self, index, result=None):
        """Adds a TRANSPOSE of the last two axes, or transposes a constant; returns its tensor."""
        tensor = self.graph.tensors[index]
        order = _swapped(list(range(len(tensor.shape))))
        if result is None:
            result = self._new_tensor(index, f"{self._name(index)}/transposed", _swapped)
        if self._is_constant(index):
            values = self._values(index, "float32").reshape(tensor.shape)
            self.graph.tensors[result].buffer = _add_buffer(self.model, values.transpose(order))
        else:
            self._add(OPERATIONS.TRANSPOSE, [index, self._constant("order", order)], result)
        return result

    def _separate_inputs(self, operator):
        """Passes a computed tensor that is several inputs through a RESHAPE for the later ones."""
        inputs = list(operator.inputs)
        for place, index in enumerate(inputs):
            if index in inputs[:place] and index >= 0 and not self._is_constant(index):
                again = self._new_tensor(index, f"{self._name(index)}/again_{place}")
                shape = [-1, *self.graph.tensors[index].shape[1:]]
                self._add(OPERATIONS.RESHAPE, [index, self._constant("shape", shape)], again)
                inputs[place] = again
        operator.inputs = inputs

    def _infer_first_size(self, operator):
        if not self._is_constant(operator.inputs[1]):
            return
        shape = self._values(operator.inputs[1], "int32").copy()
        if len(shape) and -1 not in shape:
            shape[0] = -1
            operator.inputs[1] = self._constant("shape", shape)
            operator.builtinOptions = None  # the shape for runtimes before TFLite 1.0
            operator.builtinOptionsType = schema.BuiltinOptions.NONE

    def _as_int32(self, index):
        if self._is_constant(index) and self._type(index) == INT64:
            values = self._values(index, "int64").reshape(self.graph.tensors[index].shape)
            return self._constant(self._name(index), values)
        return index

    # Helpers that read and create parts of the file.

    def _add(self, code, inputs, result):
        operator = schema.OperatorT()
        operator.opcodeIndex = self._code(code)
        operator.inputs, operator.outputs = inputs, [result]
        self.operators.append(operator)
        return operator

    def _code(self, code):
        for index, known in enumerate(self.model.operatorCodes):
            if max(known.builtinCode, known.deprecatedBuiltinCode) == code:
                return index
        new = schema.OperatorCodeT()
        new.builtinCode = new.deprecatedBuiltinCode = code
        new.version = 1
        self.model.operatorCodes.append(new)
        return len(self.model.operatorCodes) - 1

    def _constant(self, name, values, dtype="int32"):
        values = np.asarray(values, dtype=dtype)
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), list(values.shape), TYPES[dtype]
        tensor.buffer = _add_buffer(self.model, values)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _new_tensor(self, index, name, change_shape=list):
        """Adds a computed tensor of the type of another one."""
        tensor = copy.copy(self.graph.tensors[index])
        tensor.name, tensor.buffer = name.encode(), 0
        tensor.shape = change_shape(tensor.shape)
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = change_shape(tensor.shapeSignature)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def _is_constant(self, index):
        data = self.model.buffers[self.graph.tensors[index].buffer].data
        return data is not None and len(data) > 0

    def _values(self, index, dtype):
        buffer = self.model.buffers[self.graph.tensors[index].buffer]
        return np.frombuffer(bytes(buffer.data), dtype=dtype)

    def _type(self, index):
        return self.graph.tensors[index].type

    def _name(self, index):
        return self.graph.tensors[index].name.decode()


def code_of(model, operator):
    """Returns the code of an operator, an entry of the schema's `BuiltinOperator`."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Codes below 127 are in the older field, which all versions of the schema have.
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _swapped(sizes):
    return [*sizes[:-2], sizes[-1], sizes[-2]]

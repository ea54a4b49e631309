"""A model whose answers are known: the color of a picture, as an ONNX file."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

NAMES = ("red", "green", "blue")
SIZE = 16


def write_model(path):
    """Writes a model that returns the share of each color channel."""
    pictures = helper.make_tensor_value_info(
        "pictures", TensorProto.FLOAT, ["n", SIZE, SIZE, len(NAMES)]
    )
    shares = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(NAMES)])
    nodes = [
        helper.make_node("ReduceMean", ["pictures", "places"], ["means"], keepdims=0),
        helper.make_node("ReduceSum", ["means", "channels"], ["totals"], keepdims=1),
        helper.make_node("Div", ["means", "totals"], ["probabilities"]),
    ]
    axes = {"places": [1, 2], "channels": [1]}
    constants = [helper.make_tensor(n, TensorProto.INT64, [len(a)], a) for n, a in axes.items()]
    graph = helper.make_graph(nodes, "colors", [pictures], [shares], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    facts = {"class_names": list(NAMES), "image_size": SIZE}
    helper.set_model_props(model, {"kerasfer.json": json.dumps(facts)})
    onnx.save(model, path)
    return path


def draw(path, name):
    """Draws a picture that is mostly of one color; its class is the name of the color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    color = np.full((SIZE, SIZE, 3), 25, "uint8")
    color[..., NAMES.index(name)] = 200
    Image.fromarray(color).save(path)
    return path


def draw_many(folder, number):
    """Draws pictures into subfolders, whose names are their classes."""
    return [draw(folder / name / f"{i}.png", name) for i in range(number) for name in NAMES]

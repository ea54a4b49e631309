"""Writes ResNets as timm publishes them, and computes what they mean."""

import json

import numpy as np

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)


def resnet_tensors(name, seed=0):
    """Random tensors under timm's names; kernels are (out, in, height, width)."""
    rng = np.random.default_rng(seed)
    tensors = {}

    def conv(key, out, inputs, side):
        scale = np.sqrt(1 / (inputs * side * side))
        kernel = rng.standard_normal((out, inputs, side, side), dtype="float32")
        tensors[f"{key}.weight"] = (scale * kernel).astype("float32")

    def norm(key, width):
        for part, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.5, 0.5),
            ("running_mean", -0.5, 0.5),
            ("running_var", 0.5, 1.5),
        ):
            tensors[f"{key}.{part}"] = rng.uniform(low, high, width).astype("float32")

    conv("conv1", 64, 3, 7)
    norm("bn1", 64)
    inputs = 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS[name], WIDTHS, strict=True), 1):
        for block in range(blocks):
            key = f"layer{stage}.{block}"
            conv(f"{key}.conv1", width, inputs, 3)
            norm(f"{key}.bn1", width)
            conv(f"{key}.conv2", width, width, 3)
            norm(f"{key}.bn2", width)
            if block == 0 and stage > 1:
                conv(f"{key}.downsample.0", width, inputs, 1)
                norm(f"{key}.downsample.1", width)
            inputs = width
    tensors["fc.weight"] = rng.standard_normal((10, 512), dtype="float32")
    tensors["fc.bias"] = rng.standard_normal(10, dtype="float32")
    return tensors


def write_checkpoint(folder, architecture, tensors):
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    pretrained = {
        "input_size": [3, 224, 224],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    config = {"architecture": architecture, "num_classes": 10, "pretrained_cfg": pretrained}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def resnet_forward(tensors, name, pictures):
    """The feature map of a ResNet, written down in torch: (b, h, w, 3) → (b, h/32, w/32, 512)."""
    import torch
    from torch.nn import functional

    weights = {key: torch.from_numpy(value) for key, value in tensors.items()}

    def conv(x, key, stride=1):
        kernel = weights[f"{key}.weight"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def norm(x, key):
        parts = [weights[f"{key}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts, eps=1e-5)

    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(pictures, -1, 1)))
    with torch.no_grad():
        x = functional.relu(norm(conv(x, "conv1", 2), "bn1"))
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage, blocks in enumerate(BLOCKS[name], 1):
            for block in range(blocks):
                key, stride = f"layer{stage}.{block}", 2 if block == 0 and stage > 1 else 1
                y = functional.relu(norm(conv(x, f"{key}.conv1", stride), f"{key}.bn1"))
                y = norm(conv(y, f"{key}.conv2"), f"{key}.bn2")
                if f"{key}.downsample.0.weight" in weights:
                    x = norm(conv(x, f"{key}.downsample.0", stride), f"{key}.downsample.1")
                x = functional.relu(x + y)
    return np.moveaxis(x.numpy(), 1, -1)

"""Compares training steps of ResNet18 and OBSR-Net with PyTorch, in float32 and bfloat16.

python tests/benchmarks/train_step.py [--only resnet18-48] [--threads 2] [--turns 5]
"""

import numpy as np
from race import parse, print_header, print_pair, race

# Name: network, side of the pictures, stem, batch size.
CASES = {
    "resnet18-48": ("resnet18", 48, "small", 32),
    "resnet18-224": ("resnet18", 224, "imagenet", 16),
    "obsr-48": ("obsr", 48, "small", 16),
}
PRECISIONS = ("float32", "bfloat16")
NUM_CLASSES = 7


def ours(name, image_size, stem, batch, bfloat16):
    import keras

    from kerasfer.models import build_model

    keras.config.set_dtype_policy("mixed_bfloat16" if bfloat16 else "float32")
    keras.utils.set_random_seed(0)
    class_names = [f"class_{number}" for number in range(NUM_CLASSES)]
    model = build_model(name, class_names, image_size, stem=stem)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), "categorical_crossentropy", metrics=["accuracy"]
    )
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (batch, image_size, image_size, 3)).astype("float32")
    labels = np.eye(NUM_CLASSES, dtype="float32")[np.arange(batch) % NUM_CLASSES]
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return lambda: model.train_on_batch(pictures, labels), {"parameters": parameters}


def plain_torch(**case):
    from torch_resnet import make_step

    return make_step(num_classes=NUM_CLASSES, **case)


if __name__ == "__main__":
    options = parse(__doc__, turns=5, only=None, precision=None)
    if options.only not in (None, *CASES):
        raise SystemExit(f"--only must be one of {', '.join(CASES)}. Received: {options.only}.")
    print_header(options.threads)
    for title, case in CASES.items():
        if options.only not in (None, title):
            continue
        for precision in PRECISIONS:
            if options.precision not in (None, precision):
                continue
            case_of = dict(zip(("name", "image_size", "stem", "batch"), case, strict=True))
            case_of["bfloat16"] = precision == "bfloat16"
            results = race(
                {"ours": (ours, case_of), "torch": (plain_torch, case_of)},
                threads=options.threads,
                turns=options.turns,
                turn_seconds=1.0,
                warmup=2,
            )
            counts = {results[name].facts["parameters"] for name in results}
            if len(counts) > 1:
                raise SystemExit(f"The networks differ: {sorted(counts)} parameters.")
            print_pair(f"{title}, batch {case[-1]}, {precision}", results["ours"], results["torch"])
    print("target: peer / ours at least 1; parameter counts are equal")

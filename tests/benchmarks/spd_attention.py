"""Compares a training step of `spd_attention` with the same network without its SPD module.

python tests/benchmarks/spd_attention.py [--threads 2] [--turns 9] [--batch 8]
"""

import numpy as np
from race import parse, print_header, print_pair, race

NUM_CLASSES = 7


def with_module(batch):
    from kerasfer.models import spd_attention

    return _step(spd_attention(_class_names(), image_size=48, stem="small"), batch)


def without_module(batch):
    """Averages the regions' vectors instead of weighing them: all else is the same."""
    import keras

    from kerasfer.models import spd_attention
    from kerasfer.models.heads import classify

    whole = spd_attention(_class_names(), image_size=48, stem="small")
    _, vectors = whole.get_layer("spd_attention").input
    mean = keras.ops.mean(vectors, axis=1)
    return _step(keras.Model(whole.input, classify(mean, _class_names())), batch)


def _class_names():
    return [f"class_{number}" for number in range(NUM_CLASSES)]


def _step(model, batch):
    import keras

    # As a user would: jit_compile is left to Keras.
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), "categorical_crossentropy", metrics=["accuracy"]
    )
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (batch, 48, 48, 3)).astype("float32")
    labels = np.eye(NUM_CLASSES, dtype="float32")[np.arange(batch) % NUM_CLASSES]
    return lambda: model.train_on_batch(pictures, labels), {"jit_compile": model.jit_compile}


if __name__ == "__main__":
    options = parse(__doc__, turns=9, batch=8)
    print_header(options.threads)
    results = race(
        {
            "with": (with_module, {"batch": options.batch}),
            "without": (without_module, {"batch": options.batch}),
        },
        threads=options.threads,
        turns=options.turns,
        turn_seconds=1.0,
    )
    ratio = print_pair("with (ours), without (peer)", results["with"], results["without"])
    jit = ", ".join(f"{name}: {result.facts['jit_compile']}" for name, result in results.items())
    print(f"with / without {1 / ratio:.3f}, target at most 1.10; compiled by XLA: {jit}")

"""Trains as one of several processes on JAX.

python tests/train/two_processes.py OUTPUT_DIR ADDRESS NUMBER INDEX
"""

import os
import sys

import tiny_models

SECTIONS = {
    "name": "shared",
    # The last batches, of training and of validation, are smaller than the first ones.
    "data": {
        "name": "synthetic",
        "num_samples": 90,
        "image_size": 16,
        "batch_size": 16,
        "augment": {"flip": True, "crop": 0.8, "erasing": 0.5, "mixup": 0.3},
    },
    "evaluate": {"batch_size": 6},
    # Has batch normalization, random crops and a kernel on the Stiefel manifold.
    "model": {"name": "tiny_spd"},
    "optimizer": {"name": "gc_sgd", "learning_rate": 0.01, "momentum": 0.9, "ema": 0.9},
    "train": {"tensorboard": False, "verbose": 0},
}


def train_twice(output_dir):
    """Trains for two epochs and then, from the last checkpoint, for a third one."""
    from kerasfer.recipe.schema import Recipe
    from kerasfer.train import train

    tiny_models.register()
    for epochs in (2, 3):
        sections = SECTIONS | {"train": SECTIONS["train"] | {"epochs": epochs}}
        metrics = train(Recipe.model_validate(sections), output_dir=output_dir, resume=True)
    return metrics


if __name__ == "__main__":
    output_dir, address, number, index = sys.argv[1:]
    os.environ["KERAS_BACKEND"] = "jax"
    from kerasfer.train.processes import join

    join(address, int(number), int(index))
    train_twice(output_dir)
    sys.stdout.flush()
    os._exit(0)  # At a regular end JAX would wait for the other process.

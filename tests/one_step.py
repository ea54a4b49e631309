"""One training step of a recipe on small pictures, which shows that its parts fit together."""

import numpy as np

from kerasfer.models import build_model
from kerasfer.train.compiling import compile_model, make_optimizer, make_schedule

# The sides of small pictures that a network still takes; 32 for the others.
SMALL = {
    "alexnet": 64,
    "inception_resnet_v1": 80,
    "spd_attention": 48,
    "covpool": 16,
    "deep_emotion": 24,
}


def take_a_step(recipe, class_names):
    """Builds a recipe's model from random weights, trains it for a step, and checks that it moved.

    On TensorFlow only: what runs eagerly here is slower to compile than to run once.
    """
    size = SMALL.get(recipe.model.name, 32)
    if getattr(recipe.model, "backbone", None):
        size = max(size, 32)  # Covariance Pooling's own network takes smaller pictures.
    options = recipe.model.model_dump(exclude={"name", "weights"}, exclude_none=True)
    model = build_model(recipe.model.name, class_names, size, **options)
    schedule = make_schedule(recipe.optimizer, steps_per_epoch=1, epochs=recipe.train.epochs)
    compile_model(model, make_optimizer(model, recipe.optimizer, schedule))
    model.run_eagerly = True
    pictures = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype("float32")
    labels = np.eye(len(class_names), dtype="float32")[:2]
    before = [np.array(variable) for variable in model.trainable_variables]
    loss = model.train_on_batch(pictures, labels)[0]
    assert np.isfinite(loss)
    after = map(np.array, model.trainable_variables)
    assert max(np.abs(a - b).max() for a, b in zip(after, before, strict=True)) > 0

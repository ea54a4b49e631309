"""What `Batches` costs the training of a ResNet18 at 48 px, inside `fit`, with every augmentation.

The peer is the same `fit` on one batch that is ready in memory. The difference is all that feeding
costs: waiting, and the cores that the loader's threads take from the training.

    python tests/benchmarks/feeding.py [--data-dir DIR] [--threads 2] [--turns 3] [--steps 6]

With --data-dir it feeds the FER2013 that is there, otherwise drawn faces.
"""

import time

import numpy as np
from race import parse, print_header, race

AUGMENT = {"flip": True, "crop": 0.8, "shift": 0.1, "rotation": 10, "erasing": 0.5, "mixup": 0.2}
SIZE, BATCH = 48, 32


def fed(samples, steps, workers):
    batches = _batches(samples, steps, workers)
    rates = []
    for _ in range(5):  # the loader alone
        start = time.perf_counter()
        for index in range(steps):
            batches[index]
        rates.append(steps * BATCH / (time.perf_counter() - start))
        batches.epoch += 1
    return _fit(batches), {"pictures_per_second": np.median(rates)}


def ready(samples, steps):
    import keras

    batch = _batches(samples, 1, 1)[0]

    class Ready(keras.utils.PyDataset):
        def __len__(self):
            return steps

        def __getitem__(self, index):
            return batch

    return _fit(Ready()), {}


def _batches(samples, steps, workers):
    from kerasfer.data.batches import Batches, Training

    samples = samples.take(np.arange(steps * BATCH))
    return Batches(samples, SIZE, BATCH, training=Training(AUGMENT), workers=workers)


def _fit(batches):
    import keras

    from kerasfer.models import resnet18

    model = resnet18(("a", "b", "c", "d", "e", "f", "g"), SIZE, stem="small")
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), "categorical_crossentropy", metrics=["accuracy"]
    )
    return lambda: model.fit(batches, shuffle=False, verbose=0)


if __name__ == "__main__":
    from kerasfer.data import load_dataset

    options = parse(__doc__, data_dir=None, turns=3, steps=6)
    print_header(options.threads)
    if options.data_dir:
        samples = load_dataset("fer2013", options.data_dir)
    else:
        samples = load_dataset("synthetic", num_samples=options.steps * BATCH)
    # No more than an epoch of the benchmark needs travels to the other processes.
    arguments = {"samples": samples.take(np.arange(options.steps * BATCH)), "steps": options.steps}
    contestants = {"ready": (ready, arguments)}
    for workers in (1, 2):
        contestants[f"{workers} workers"] = (fed, arguments | {"workers": workers})
    results = race(contestants, threads=options.threads, turns=options.turns, warmup=1)
    peer = results.pop("ready")
    print(f"batch ready in memory: {peer.median / options.steps * 1e3:.1f} ms a step")
    for name, result in results.items():
        shares = 1 - peer.seconds / result.seconds
        low, high = np.quantile(shares, [0.25, 0.75])
        print(
            f"{name}: {result.median / options.steps * 1e3:.1f} ms a step, "
            f"{1 - peer.median / result.median:.1%} of it for feeding ({low:.1%} to {high:.1%}; "
            f"fastest turns {1 - peer.seconds.min() / result.seconds.min():.1%}; processor time "
            f"{1 - np.median(peer.processor) / np.median(result.processor):.1%}; "
            f"others used {result.others.mean():.1f} cores); "
            f"loader alone {result.facts['pictures_per_second']:,.0f} pictures a second"
        )

import threading
import tracemalloc
from dataclasses import replace

import keras
import numpy as np
import pytest
from augmentations import ALL
from PIL import Image

from kerasfer.data import samples as samples_module
from kerasfer.data.batches import Batches, Training, original_errors
from kerasfer.data.decoded import describe_large
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError


def numbered(num):
    """Gray pictures, the i-th of which is all i, of two classes in turn."""
    pictures = np.arange(num, dtype="uint8")[:, None, None].repeat(8, axis=1).repeat(8, axis=2)
    labels = one_hot(np.arange(num) % 2, 2)
    return Samples("numbered", ("even", "odd"), pictures, labels, [f"{i}" for i in range(num)])


def noisy(num, shape=(8, 8)):
    pictures = np.random.default_rng(0).integers(0, 256, (num, *shape), dtype="uint8")
    return Samples("noisy", ("a", "b"), pictures, one_hot(np.arange(num) % 2, 2), range(num))


class Recorded(Batches):
    """Keeps which pictures each batch held."""

    def __init__(self, *args, **options):
        self.held = {}
        super().__init__(*args, **options)

    def _make(self, epoch, index):
        batch = super()._make(epoch, index)
        self.held[epoch, index] = batch[0][:, 0, 0, 0].astype(int).tolist()
        return batch


class Weigh(keras.layers.Layer):
    """Adds up what it is trained on, in a weight that tells order from disorder."""

    def build(self, input_shape):
        self.seen = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.dense = keras.layers.Dense(2)
        self.dense.build((None, 3))

    def call(self, images, training=False):
        if training:
            self.seen.assign(self.seen * 0.9 + keras.ops.sum(images[:, 0, 0, 0]))
        return self.dense(keras.ops.mean(images, axis=(1, 2)))


def make_model():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), Weigh()])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["accuracy"], jit_compile=False)
    return model


def weigh(orders):
    seen = 0.0
    for pictures in orders:
        seen = seen * 0.9 + sum(pictures)
    return seen


@pytest.mark.parametrize("shape", [(8, 8), (12, 10, 3)])
def test_items_are_three_equal_or_real_channels(shape):
    batches = Batches(
        noisy(10, shape), 8, 4, training=Training(sample_weights=[1.0, 3.0], shuffle=False)
    )
    images, labels, weights = batches[0]
    assert (images.shape, labels.shape, weights.shape) == ((4, 8, 8, 3), (4, 2), (4,))
    assert images.dtype == labels.dtype == weights.dtype == np.float32
    assert images.max() > 1
    assert (images[..., 0] == images[..., 2]).all() == (len(shape) == 2)
    np.testing.assert_array_equal(weights, [1, 3, 1, 3])
    assert len(batches[2][0]) == 2


@pytest.mark.parametrize(
    ("num", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (1, 4, [1]), (3, 1, [1, 1, 1])],
)
def test_no_last_batch_of_one(num, batch_size, sizes):
    batches = Batches(numbered(num), 8, batch_size)
    assert [len(images) for images, _ in batches] == sizes
    assert len(batches) == len(sizes)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_fit_sees_each_sample_once_an_epoch_in_the_order_of_the_seed(workers):
    batches = Recorded(numbered(11), 8, 4, training=Training(seed=5), workers=workers)
    model = make_model()
    model.fit(
        batches, validation_data=Batches(numbered(6), 8, 2), epochs=2, shuffle=False, verbose=0
    )
    orders = [[batches.held[epoch, index] for index in range(3)] for epoch in (0, 1)]
    assert batches.epoch == 2
    for order in orders:
        assert sorted(sum(order, [])) == list(range(11))
    assert orders[0] != orders[1]
    # What the model was really given, in order.
    np.testing.assert_allclose(model.layers[0].seen, weigh(sum(orders, [])), rtol=1e-4)
    reference = Batches(numbered(11), 8, 4, training=Training(seed=5), workers=0)
    for epoch, order in enumerate(orders):
        reference.epoch = epoch
        assert [images[:, 0, 0, 0].astype(int).tolist() for images, _ in reference] == order


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_fit_sees_the_same_batches(workers):
    options = {"training": Training(ALL, seed=3), "workers": workers}
    whole = Batches(noisy(20), 8, 4, **options)
    model = make_model()
    model.fit(whole, epochs=3, shuffle=False, verbose=0)
    before = float(model.layers[0].seen)
    model.fit(whole, epochs=5, initial_epoch=3, shuffle=False, verbose=0)

    resumed = Batches(noisy(20), 8, 4, **options)
    resumed.epoch = 3
    again = make_model()
    again.layers[0].seen.assign(before)
    again.fit(resumed, epochs=5, initial_epoch=3, shuffle=False, verbose=0)
    assert whole.epoch == resumed.epoch == 5
    np.testing.assert_allclose(again.layers[0].seen, model.layers[0].seen, rtol=1e-6)


def test_fit_counts_the_passes_over_two_batches():
    batches = Batches(numbered(8), 8, 4)
    make_model().fit(batches, epochs=2, shuffle=False, verbose=0)
    assert batches.epoch == 2


def test_two_loaders_do_not_interfere():
    alone = [images for images, _ in Batches(noisy(16), 8, 4, training=Training(ALL), workers=2)]
    first, second = (
        Batches(noisy(16), 8, 4, training=Training(ALL, seed=seed), workers=2) for seed in (0, 1)
    )
    for expected, (images, _), (others, _) in zip(alone, first, second, strict=True):
        np.testing.assert_array_equal(images, expected)
        assert not np.array_equal(images, others)


def test_readers_at_different_places_get_the_same_batches(monkeypatch):
    monkeypatch.setattr("kerasfer.data.batches.PREFETCHED", 2)
    batches = Batches(noisy(64), 8, 4, training=Training(ALL), workers=2)
    expected = [images for images, _ in batches]
    wrong = []

    def read(start):
        for step in range(len(batches)):
            index = (start + step) % len(batches)
            if not np.array_equal(batches[index][0], expected[index]):
                wrong.append(index)

    readers = [threading.Thread(target=read, args=(start,)) for start in (0, 5, 11)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(timeout=30)
    assert not wrong


@pytest.mark.parametrize("num", [8, 12])
def test_a_pass_given_up_is_not_an_epoch(num):
    batches = Batches(numbered(num), 8, 4)
    list(batches)  # TensorFlow looks at two batches
    batches.on_epoch_end()  # Keras does this before the first epoch
    batches.on_epoch_begin()
    batches[0]
    batches.on_epoch_end()
    assert batches.epoch == 0
    batches.on_epoch_begin()
    list(batches)
    batches.on_epoch_end()
    assert batches.epoch == 1


def test_mixup_weighs_by_the_mixed_labels():
    batches = Batches(noisy(8), 8, 8, training=Training({"mixup": 1.0}, sample_weights=[1.0, 3.0]))
    _, labels, weights = batches[0]
    assert ((labels > 0) & (labels < 1)).any()
    np.testing.assert_allclose(weights, labels @ [1, 3], rtol=1e-6)


def test_mixup_mixes_images_and_labels_equally():
    pictures = np.arange(8, dtype="uint8")[:, None, None].repeat(8, axis=1).repeat(8, axis=2)
    samples = Samples("own", tuple("abcdefgh"), pictures, one_hot(np.arange(8), 8), range(8))
    images, labels = Batches(samples, 8, 8, training=Training({"mixup": 1.0}))[0]
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(images[:, 0, 0, 0], labels @ np.arange(8), rtol=1e-6)
    assert (labels.max(axis=1) < 1).any()


@pytest.mark.parametrize("augment", [None, ALL, {**ALL, "mixup": 0.0}])
def test_the_parts_of_several_processes_are_the_batches_of_one(augment):
    samples = noisy(22, (8, 8, 3))
    rng = np.random.default_rng(1)
    samples = replace(samples, landmarks=rng.uniform(0, 8, (22, 2, 2)).astype("float32"))
    options = {"augment": augment, "multiple": 4, "seed": 5, "sample_weights": [1.0, 3.0]}
    whole, *parts = (
        Batches(samples, 8, 8, training=Training(**options, part=part))
        for part in ((0, 1), (0, 2), (1, 2))
    )
    assert [len(part) for part in parts] == [len(whole)] * 2 == [3, 3]
    for number, (inputs, labels, weights) in enumerate(whole):
        shares = [part[number] for part in parts]
        assert [len(share[1]) for share in shares] == [len(labels) // 2] * 2
        for name, values in inputs.items():
            together = np.concatenate([share[0][name] for share in shares])
            np.testing.assert_array_equal(together, values)
        np.testing.assert_array_equal(np.concatenate([share[1] for share in shares]), labels)
        np.testing.assert_array_equal(np.concatenate([share[2] for share in shares]), weights)


def test_a_process_decodes_only_its_part_and_the_partners_of_mixup(tmp_path, monkeypatch):
    samples, decoded = photographs(tmp_path, 12, size=(40, 30)), []
    original = samples_module.read_picture

    def record(path, **options):
        decoded.append(int(path.stem))
        return original(path, **options)

    monkeypatch.setattr(samples_module, "read_picture", record)
    order = {"shuffle": False, "multiple": 3, "part": (2, 3)}
    Batches(samples, 24, 12, training=Training({"erasing": 1.0}, **order), workers=0)[0]
    assert decoded == [8, 9, 10, 11]
    decoded.clear()
    Batches(samples, 24, 12, training=Training({"mixup": 1.0}, **order), workers=0)[0]
    assert {8, 9, 10, 11} < set(decoded) and len(decoded) <= 8


@pytest.fixture
def files(tmp_path, draw):
    """Twelve picture files, the eighth of which is truncated."""
    paths = [draw(tmp_path / f"{number}.png", seed=number) for number in range(12)]
    paths[7].write_bytes(paths[7].read_bytes()[:500])
    return Samples(
        "files", ("a", "b"), paths, one_hot(np.arange(12) % 2, 2), [path.name for path in paths]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_fit_raises_the_error_of_the_loader(files, workers):
    batches = Batches(files, 8, 2, workers=workers)
    with pytest.raises(DataError, match="7.png cannot be read") as raised, original_errors(batches):
        make_model().fit(batches, shuffle=False, verbose=0)
    assert raised.value is batches.error


def test_other_errors_pass_through(files):
    batches = Batches(files, 8, 2)
    with pytest.raises(KeyError), original_errors(batches):
        raise KeyError("x")
    with pytest.raises(IndexError):
        batches[6]


def test_bad_pictures_are_left_out_when_asked(files):
    batches = Batches(files, 8, 4, on_bad_image="skip")
    assert batches.bad_images == ["7.png"]
    assert len(batches.samples) == 11
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    assert Batches(noisy(4), 8, 4, on_bad_image="skip").bad_images == []


def test_no_usable_picture_is_an_error(files):
    with pytest.raises(DataError, match="None of the 1 pictures of files can be read"):
        Batches(files.take([7]), 8, 4, on_bad_image="skip")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"training": Training(seed=-1)}, "`seed` must be at least 0"),
        ({"workers": -1}, "`workers` must be at least 0"),
        ({"on_bad_image": "ignore"}, "`on_bad_image` must be 'error' or 'skip'"),
        ({"training": Training(sample_weights=[1.0])}, "one weight for each of 2 classes"),
        ({"training": Training({"rotation": 200})}, "`rotation` must be"),
        ({"training": Training(multiple=2, part=(2, 2))}, r"`part` must be .* part=\(2, 2\)"),
        ({"training": Training(multiple=2, part=(0, 3))}, r"`part` must be .*, multiple=2"),
    ],
)
def test_bad_arguments_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        Batches(noisy(4), **{"image_size": 8, "batch_size": 2} | bad)


# Large pictures


def photographs(tmp_path, num=12, size=(1200, 900)):
    paths = []
    for number in range(num):
        picture = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype="uint8")
        paths.append(tmp_path / f"{number}.jpg")
        Image.fromarray(picture).resize(size).save(paths[-1])
    labels = one_hot(np.arange(num) % 2, 2)
    return Samples("photographs", ("a", "b"), paths, labels, [path.name for path in paths])


@pytest.mark.parametrize("augment", [None, ALL])
def test_a_batch_never_holds_its_pictures_at_full_size(tmp_path, augment):
    samples = photographs(tmp_path)
    training = Training(augment)
    Batches(samples.take([0]), 24, 1, training=training, workers=0)[0]  # What is imported once.
    tracemalloc.start()
    Batches(samples, 24, 12, training=training, workers=0)[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 1200 * 900 * 3  # Twelve decoded pictures are six times as much.


@pytest.mark.parametrize("augment", [None, ALL])
def test_pictures_are_decoded_once_up_to_the_limit(tmp_path, monkeypatch, augment):
    samples, decoded = photographs(tmp_path, 6), []
    original = samples_module.read_picture

    def record(path, **options):
        decoded.append(path.name)
        return original(path, **options)

    monkeypatch.setattr(samples_module, "read_picture", record)
    batches = Batches(samples, 24, 3, training=Training(augment, shuffle=False), workers=0)
    first = [images for images, _ in batches]
    again = [images for images, _ in batches]
    assert decoded == [path.name for path in samples.pictures]
    np.testing.assert_array_equal(first, again)

    decoded.clear()
    batches = Batches(samples, 24, 3, training=Training(augment, shuffle=False), workers=0)
    batches.decoded.most_bytes = batches.decoded[0][0].nbytes * 2
    decoded.clear()
    unlimited = [[images for images, _ in batches] for _ in range(2)]
    assert len(decoded) == 5 + 4 and batches.decoded.bytes <= batches.decoded.most_bytes
    np.testing.assert_array_equal(unlimited[1], first)


def test_landmarks_follow_a_shrunk_picture(tmp_path):
    points = np.full((6, 1, 2), [300, 450], "float32")
    samples = replace(photographs(tmp_path, 6), landmarks=points)
    for training in (None, Training({}, shuffle=False)):
        inputs, *_ = Batches(samples, 24, 6, training=training, workers=0)[0]
        np.testing.assert_allclose(inputs["landmarks"], np.full((6, 1, 2), [0.25, 0.5]), atol=1e-3)


def test_large_photographs_are_announced(tmp_path):
    (line,) = describe_large(photographs(tmp_path, 2, size=(2000, 1500)))
    assert line.startswith("The pictures have about 3.0 megapixels, so the first epoch is slow")
    assert "`kerasfer data prepare` crops the faces once" in line
    assert list(describe_large(noisy(4))) == []

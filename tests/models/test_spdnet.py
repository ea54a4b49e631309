import keras
import numpy as np
import pytest

from kerasfer.models import spdnet

pytestmark = pytest.mark.usefixtures("seed")


def trials(number=60, channels=8):
    """Covariances of two classes, whose power lies in different channels."""
    rng = np.random.default_rng(0)
    labels = np.arange(number) % 2
    power = np.where(labels[:, None] == np.arange(channels) % 2, 2.0, 1.0)[..., None]
    signals = power * rng.standard_normal((number, channels, 64))
    return (signals @ signals.swapaxes(1, 2) / 64).astype("float32"), labels


@pytest.mark.parametrize("method", ["eigh", "matmul"])
@pytest.mark.parametrize("batch_normalization", [False, True])
def test_learns_two_classes_and_comes_back_from_a_file(method, batch_normalization, tmp_path):
    x, labels = trials()
    model = spdnet(2, 8, (6, 4), batch_normalization=batch_normalization, method=method)
    model.compile(
        keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, labels, batch_size=20, epochs=15, verbose=0)
    assert model.evaluate(x, labels, verbose=0)[1] > 0.9
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_the_example_of_the_readme():
    # Kept in sync with the example of the README.
    x = np.random.default_rng(0).standard_normal((40, 22, 256)).astype("float32")
    covariances = x @ x.swapaxes(1, 2) / 256
    model = spdnet(num_classes=4, input_size=22, units=(16, 8), batch_normalization=True)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(covariances, np.arange(40) % 4, epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_bad_sizes_are_errors():
    with pytest.raises(ValueError, match="at least one stage. Received: units="):
        spdnet(2, 8, ())
    with pytest.raises(ValueError, match="must not exceed the input size"):
        spdnet(2, 8, (6, 7))

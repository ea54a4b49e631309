"""What libraries import beside what they are needed for."""

import contextlib
import sys

import keras


@contextlib.contextmanager
def without_tensorflow():
    """Hides TensorFlow from the imports of the block, unless it computes or is imported already.

    keras-hub, TensorBoard and Keras' seeding import it where it is installed, and need it on no
    other backend. Beside PyTorch it does harm: both bring oneDNN, and on a CPU without AVX-512 the
    gradient of a 1 × 1 convolution crashed or never came to its end.

    Example:
        >>> with without_tensorflow():
        ...     from keras_hub.models import ResNetBackbone
    """
    if keras.backend.backend() == "tensorflow" or "tensorflow" in sys.modules:
        yield
        return
    sys.modules["tensorflow"] = None  # `import tensorflow` is an ImportError so
    try:
        yield
    finally:
        del sys.modules["tensorflow"]

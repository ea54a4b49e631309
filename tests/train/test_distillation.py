import keras
import numpy as np
import pytest
import tiny_models
from keras import layers, ops

from kerasfer.errors import DataError, RecipeError
from kerasfer.models import obsr
from kerasfer.models.heads import classify
from kerasfer.recipe.schema import Distill
from kerasfer.train.distillation import (
    Distilled,
    compare_maps,
    last_maps,
    softened_divergence,
)
from kerasfer.train.teachers import Teacher

pytestmark = pytest.mark.usefixtures("seed")

NAMES = ("angry", "happy", "sad")
CROSSENTROPY = keras.losses.CategoricalCrossentropy()


def pictures(count=8, side=16):
    return np.random.default_rng(0).uniform(0, 255, (count, side, side, 3)).astype("float32")


def labels(count=8):
    return np.eye(3, dtype="float32")[np.random.default_rng(1).integers(0, 3, count)]


def settings(**given):
    return Distill(teacher="runs/teacher", **given)


def wide_backbone(side=16):
    """More channels and places than the tiny one: 8 × 8 × 12 of 16 px."""
    inputs = keras.Input((side, side, 3))
    x = layers.Conv2D(12, 3, 2, padding="same", activation="relu", name="conv_wide")(inputs)
    return keras.Model(inputs, layers.BatchNormalization(name="norm_wide")(x))


def teacher(names=NAMES, side=16):
    return tiny_models.classifier(names, side, wide_backbone(side))


def distilled(student=None, given=None, names=NAMES, **options):
    student = student or tiny_models.tiny(NAMES, 16)
    return Distilled(student, Teacher(given or teacher(names), NAMES), settings(**options))


def numpy_of(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


def weights(model):
    return [np.array(numpy_of(variable)) for variable in model.variables]


def softmax(logits):
    exp = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


# The terms


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_divergence_of_softened_logits(temperature):
    rng = np.random.default_rng(0)
    theirs, ours = rng.normal(0, 3, (2, 5, 7))
    q, p = softmax(theirs / temperature), softmax(ours / temperature)
    expected = (q * np.log(q / p)).sum(axis=1)
    found = softened_divergence(
        softmax(theirs).astype("float32"), softmax(ours).astype("float32"), temperature
    )
    np.testing.assert_allclose(numpy_of(found), expected, rtol=1e-4)


def test_divergence_where_softmax_fell_to_zero():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], "float32")
    np.testing.assert_array_equal(numpy_of(softened_divergence(sure, sure, 4.0)), 0)
    apart = numpy_of(softened_divergence(sure, sure[::-1].copy(), 1.0))
    np.testing.assert_allclose(apart, -np.log(1e-30), rtol=1e-5)


def test_attention_by_hand():
    # Two places: mean squares over the channels of (9, 16) and (1, 0).
    own = np.array([3.0, 4.0], "float32").reshape(1, 1, 2, 1)
    other = np.array([[1.0, 0.0], [1.0, 0.0]], "float32").T.reshape(1, 1, 2, 2)
    expected = 2 - 2 * 9 / np.hypot(9, 16)
    found = compare_maps(own, other, "attention", 1)
    np.testing.assert_allclose(numpy_of(found), [expected], rtol=1e-5)


def test_covariance_by_hand():
    # Three channels are the samples. Some positions vary together, others in opposite directions:
    # [[1, 1], [1, 1]] and [[1, -1], [-1, 1]], at a right angle.
    alike = np.array([[1, 2, 3], [4, 5, 6]], "float32").reshape(1, 1, 2, 3)
    apart = np.array([[1, 2, 3], [6, 5, 4]], "float32").reshape(1, 1, 2, 3)
    for other, expected in ((apart, 2), (alike, 0), (5 * alike + 7, 0)):
        found = compare_maps(alike, other, "covariance", 1)
        np.testing.assert_allclose(numpy_of(found), [expected], atol=1e-5)


@pytest.mark.parametrize("features", ["covariance", "attention"])
def test_maps_of_other_sizes_are_averaged(features):
    rng = np.random.default_rng(0)
    fine = rng.normal(size=(2, 3, 4, 5)).astype("float32")
    down = np.array([[2, 1, 0], [0, 1, 2]], "float32") / 3
    across = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], "float32") / 2
    coarse = np.einsum("yh,bhwc,xw->byxc", down, fine, across)
    for own, other in ((fine, coarse), (coarse, fine)):
        np.testing.assert_allclose(numpy_of(compare_maps(own, other, features, 2)), 0, atol=1e-5)
    other = rng.normal(size=(2, 2, 2, 5)).astype("float32")
    assert (numpy_of(compare_maps(fine, other, features, 2)) > 0.01).all()


def test_of_several_regions_the_first_counts():
    maps = np.random.default_rng(0).normal(size=(6, 2, 2, 5)).astype("float32")
    found = compare_maps(maps, maps[::3], "covariance", 2)
    np.testing.assert_allclose(numpy_of(found), 0, atol=1e-5)
    with pytest.raises(ValueError, match="`features` must be one of .*Received: 'color'"):
        compare_maps(maps, maps, "color", 6)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (lambda: tiny_models.tiny(NAMES, 16), (None, 4, 4, 8)),
        (lambda: tiny_models.tiny_spd(NAMES, 16), (None, 4, 4, 8)),
        (lambda: obsr(NAMES, 16, tiny_models.tiny_backbone(16)), (None, 4, 4, 16)),
    ],
    ids=["classifier", "spd_attention", "obsr"],
)
def test_last_maps(model, shape):
    assert tuple(last_maps(model()).shape) == shape


def test_a_model_without_maps():
    inputs = keras.Input((12,))
    student = keras.Model(inputs, classify(inputs, NAMES), name="flat")
    with pytest.raises(RecipeError, match="compares feature maps, but flat has none. Set it to 0"):
        last_maps(student)


# The loss


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_by_hand(weighted):
    options = {"temperature": 3.0, "weight": 0.7, "feature_weight": 0.5}
    student, given = tiny_models.tiny(NAMES, 16), teacher()
    model = distilled(student, given, **options)
    smoothing = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile("sgd", smoothing)
    x, y = pictures(), labels()
    sample_weight = np.linspace(0.5, 2, 8).astype("float32") if weighted else None

    p, maps = (numpy_of(part) for part in model(x))
    np.testing.assert_allclose(p, numpy_of(student(x)), rtol=1e-5)
    q = numpy_of(given(x)).astype("float64")
    hard = -((0.9 * y + 0.1 / 3) * np.log(p)).sum(axis=1)
    q_soft, p_soft = softmax(np.log(q) / 3), softmax(np.log(p.astype("float64")) / 3)
    soft = (q_soft * np.log(q_soft / p_soft)).sum(axis=1)
    theirs = numpy_of(keras.Model(given.input, last_maps(given))(x))
    seen = numpy_of(compare_maps(maps, theirs, "covariance", 8))
    loss = 0.3 * hard + 0.7 * 9 * soft + 0.5 * seen
    expected = np.mean(loss if sample_weight is None else loss * sample_weight)

    y_pred = [ops.convert_to_tensor(p), ops.convert_to_tensor(maps)]
    found = model.compute_loss(ops.convert_to_tensor(x), y, y_pred, sample_weight)
    np.testing.assert_allclose(numpy_of(found), expected, rtol=1e-4)
    # Validation is by the labels alone.
    found = model.compute_loss(x, y, y_pred, sample_weight, training=False)
    expected = np.mean(hard if sample_weight is None else hard * sample_weight)
    np.testing.assert_allclose(numpy_of(found), expected, rtol=1e-4)


def test_without_weight_it_is_plain_training():
    def fitted(wrap):
        keras.utils.set_random_seed(3)
        student = tiny_models.tiny_spd(NAMES, 16)  # has a loss of its own
        model = wrap(student)
        keras.utils.set_random_seed(4)
        model.compile(keras.optimizers.SGD(0.05), CROSSENTROPY, metrics=["accuracy"])
        history = model.fit(pictures(), labels(), batch_size=4, epochs=2, shuffle=False, verbose=0)
        return history.history, [numpy_of(v) for v in student.trainable_variables]

    plain = fitted(lambda student: student)
    # A recipe with a teacher that has no effect is refused, so the section is not checked here.
    nothing = Distill.model_construct(
        teacher="runs/teacher", temperature=1.0, weight=0.0, feature_weight=0.0
    )
    taught = fitted(lambda student: Distilled(student, Teacher(teacher(), NAMES), nothing))
    assert plain[0].keys() == taught[0].keys() == {"accuracy", "loss"}
    for name, values in plain[0].items():
        np.testing.assert_allclose(values, taught[0][name], rtol=1e-6)
    for ours, theirs in zip(plain[1], taught[1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("features", ["covariance", "attention"])
def test_the_student_approaches_its_unchanged_teacher(features):
    student, given = tiny_models.tiny(NAMES, 16), teacher()
    before = weights(given)
    model = distilled(student, given, weight=1.0, features=features, feature_weight=1.0)
    assert [v.path for v in model.variables] == [v.path for v in student.variables]
    model.compile(keras.optimizers.Adam(0.01), CROSSENTROPY, metrics=["accuracy"])
    losses = model.fit(pictures(), labels(), epochs=15, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.7 * losses[0]
    for old, new in zip(before, weights(given), strict=True):
        np.testing.assert_array_equal(old, new)


def test_only_the_student_is_saved(tmp_path):
    model = distilled(feature_weight=1.0)
    student = keras.Model(model.input, model.outputs[0])
    student.save(tmp_path / "student.keras")
    again = keras.saving.load_model(tmp_path / "student.keras")
    assert not any("wide" in variable.path for variable in again.variables)
    np.testing.assert_array_equal(
        again.predict(pictures(), verbose=0), student.predict(pictures(), verbose=0)
    )


@pytest.mark.parametrize(
    ("student", "given"),
    [("tiny_spd", "tiny"), ("tiny", "tiny_spd")],
)
def test_crops_of_a_face_do_not_confuse_it(student, given):
    student, given = (getattr(tiny_models, name)(NAMES, 16) for name in (student, given))
    model = distilled(student, given, feature_weight=1.0)
    model.compile("adam", CROSSENTROPY)
    assert np.isfinite(model.fit(pictures(), labels(), verbose=0).history["loss"]).all()


def test_an_eigendecomposition_in_the_teacher_keeps_xla_away():
    on_tensorflow = keras.backend.backend() == "tensorflow"
    model = distilled(given=tiny_models.tiny_spd(NAMES, 16))
    assert model.supports_jit == (not on_tensorflow)
    assert distilled().supports_jit


def test_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = distilled(feature_weight=1.0)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("sgd", CROSSENTROPY)
    assert np.isfinite(model.fit(pictures(), labels(), verbose=0).history["loss"]).all()


# The teacher


def test_classes_in_another_order():
    given = teacher(("sad", "angry", "happy"))
    (answers,) = Teacher(given, NAMES)(pictures())
    np.testing.assert_allclose(
        numpy_of(answers), numpy_of(given(pictures()))[:, [1, 2, 0]], rtol=1e-6
    )
    with pytest.raises(DataError, match="has the classes angry, happy; runs/x has sad, angry"):
        Teacher(given, ("angry", "happy"), "runs/x")


def test_pictures_of_another_size_are_resized():
    given = teacher(side=32)
    # Nearly flat pictures, which resizing leaves as they are.
    x = np.linspace(10, 200, 8, dtype="float32")[:, None, None, None] * np.ones((8, 16, 16, 3))
    x = x.astype("float32")
    (answers,) = Teacher(given, NAMES)(ops.convert_to_tensor(x))
    bigger = np.repeat(np.repeat(x, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(numpy_of(answers), numpy_of(given(bigger)), rtol=1e-4)

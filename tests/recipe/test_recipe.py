import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kerasfer.errors import RecipeError
from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.schema import Recipe, recipe_schema
from kerasfer.tables.cells import load_table

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
MINIMAL = "data: {name: fer2013}\nmodel: {name: resnet18}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes recipes into the working folder, so that error texts hold bare names."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.yaml"):
        Path(name).write_text(text, encoding="utf-8")
        return name

    return write


def error_of(path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert not re.search(r"pydantic|Input should|type=|Value error", message)
    return message


# The recipes that come with kerasfer


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipe_loads_and_round_trips(path, tmp_path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.description
    copy = tmp_path / "recipe.yaml"
    copy.write_text(dump(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


def test_published_settings():
    by_name = {path.stem: load_recipe(path) for path in RECIPES}
    published = {
        "ckplus_obsr": ("obsr", 4, None, 98.82),
        "fer2013_obsr": ("obsr", 3, None, 77.65),
        "ckplus_spd": ("spd_attention", 1, "CK+", 99.01),
        "fer2013_spd": ("spd_attention", 1, "FER2013", 69.51),
        "ferplus_spd": ("spd_attention", 1, "FER2013plus", 87.90),
        "rafdb_spd": ("spd_attention", 1, "RAF-DB", 86.63),
        "affectnet_spd": ("spd_attention", 1, "AffectNet", 57.10),
        "sfew_spd": ("spd_attention", 1, "SFEW", 49.18),
    }
    for name, expected in published.items():
        paper = by_name[name].reproduces
        assert (paper.paper, paper.table, paper.column, paper.accuracy) == expected
    assert {name for name in by_name if by_name[name].reproduces} == set(published)

    fer2013, ckplus = by_name["fer2013_obsr"], by_name["ckplus_obsr"]
    assert (fer2013.optimizer.name, fer2013.optimizer.weight_decay) == ("gc_adamw", 1e-2)
    assert (ckplus.optimizer.name, ckplus.optimizer.weight_decay) == ("gc_adam", None)
    for recipe in (fer2013, ckplus):
        assert (recipe.data.image_size, recipe.data.batch_size) == (224, 16)
        assert (recipe.train.epochs, recipe.optimizer.learning_rate) == (200, 1e-4)
        assert (recipe.model.weights, recipe.model.shared) == ("imagenet", False)
    for name in published.keys() - {"fer2013_obsr", "ckplus_obsr"}:
        recipe = by_name[name]
        assert (recipe.data.image_size, recipe.data.batch_size) == (224, 256)
        assert (recipe.optimizer.name, recipe.optimizer.learning_rate) == ("sgd", 0.1)
        assert (recipe.optimizer.schedule.name, recipe.optimizer.schedule.every_epochs) == (
            "step",
            20,
        )
        assert recipe.data.class_weights == "balanced"
        assert recipe.data.augment.flip and recipe.data.augment.crop
    assert by_name["ckplus_spd"].data.protocol == "frames"
    assert by_name["ferplus_spd"].data.labels == "argmax8"
    assert by_name["sfew_spd"].data.with_rafdb


# Reading


def test_defaults(write):
    recipe = load_recipe(write(MINIMAL))
    assert recipe.name == "mine"
    assert (recipe.data.image_size, recipe.optimizer.name, recipe.train.epochs) == (48, "adam", 30)
    assert recipe.reproduces is None and recipe.model.weights is None


def test_a_number_with_an_exponent_needs_no_dot(write):
    path = write(MINIMAL + "optimizer: {learning_rate: 1e-4, weight_decay: 5E-3}\n")
    recipe = load_recipe(path, ["model={name: covpool, epsilon: 1e-5}"])
    assert recipe.optimizer.learning_rate == 1e-4
    assert recipe.optimizer.weight_decay == 5e-3
    assert recipe.model.epsilon == 1e-5


def test_a_name_that_looks_like_a_number_round_trips(write):
    recipe = load_recipe(write(MINIMAL + "description: '1e5'\n", "1e5.yaml"))
    assert recipe.name == recipe.description == "1e5"
    assert load_recipe(write(dump(recipe), "copy.yaml")) == recipe


def test_every_key_round_trips(write):
    recipe = load_recipe(
        write(
            """
            name: café
            reproduces: {paper: obsr, table: 4, row: OBSR-Net, column: CK+, accuracy: 98.82}
            data: {name: ckplus, protocol: subjects, fold: 2, num_folds: 5, neutral: true, limit: 9}
            model: {name: spd_attention, weights: imagenet, dropout: 0.5, method: matmul, crops: 3}
            optimizer: {name: gc_sgd, momentum: 0.9, conv_only: false, location: update, ema: 0.99}
            train: {early_stopping: 3, precision: mixed_float16, backend: torch, tensorboard: false}
            evaluate: {tta: ten_crop}
            """
        )
    )
    assert load_recipe(write(dump(recipe), "copy.yaml")) == recipe


def test_dumping_without_nulls_is_lossless():
    # `dump` leaves nulls out, which is right as long as null is the default wherever it is allowed.
    for section in recipe_schema()["$defs"].values():
        for key, part in section["properties"].items():
            if {"type": "null"} in part.get("anyOf", ()):
                assert part["default"] is None, key


def test_the_recipe_of_a_run_needs_no_registered_model(write):
    path = write("data: {name: synthetic}\nmodel: {name: mine, units: 8, crops: null}\n")
    assert "`model.name` must be one of alexnet, " in error_of(path)
    recipe = load_recipe(path, trained=True)
    assert recipe.model.model_dump(exclude_none=True) == {"name": "mine", "units": 8}
    assert load_recipe(write(dump(recipe), "copy.yaml"), trained=True) == recipe
    write("data: {name: mine}\nmodel: {name: mine}\n")
    with pytest.raises(RecipeError, match="`data.name` must be one of affectnet, "):
        load_recipe(path, trained=True)


def test_recipes_that_come_with_kerasfer_have_names(write, tmp_path):
    assert load_recipe("quickstart").name == "quickstart"
    assert load_recipe(write("base: fer2013_spd\n")).model.name == "spd_attention"
    assert "There is no recipe spd_table1." in error_of("spd_table1")
    assert error_of("recipes/quickstart.yaml").endswith(
        "the folder recipes does not exist or cannot be read. kerasfer comes with a recipe of that "
        "name: quickstart."
    )
    assert load_table("spd_table1").cells[0].recipe


def test_a_recipe_can_be_sent_to_another_process():
    recipe = load_recipe("fer2013_slim_48")
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).model.width)"
    run = [sys.executable, "-c", code]
    out = subprocess.run(run, input=pickle.dumps(recipe), capture_output=True, check=True)
    assert out.stdout.strip() == b"48"
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_a_recipe_is_not_changed_by_accident(write):
    recipe = load_recipe(write(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.epochs = 3


# Inheritance and overrides


def test_base_is_merged_key_by_key(write, tmp_path):
    write(MINIMAL + "train: {epochs: 7, seed: 3}\n", "one.yaml")
    (tmp_path / "deeper").mkdir()
    write("base: ../one.yaml\ndata: {augment: {flip: true}}\ntrain: {seed: 4}\n", "deeper/two.yaml")
    write("base: deeper/two.yaml\ndata: {augment: {crop: 0.8}}\n", "three.yaml")
    recipe = load_recipe("three.yaml")
    assert recipe.name == "three"
    assert (recipe.data.name, recipe.train.epochs, recipe.train.seed) == ("fer2013", 7, 4)
    assert (recipe.data.augment.flip, recipe.data.augment.crop) == (True, 0.8)


def test_the_name_and_description_of_a_base_are_not_inherited(write):
    write(
        MINIMAL + "name: other\ndescription: mine\n"
        "reproduces: {paper: obsr, table: 4, row: OBSR-Net, accuracy: 98.82}\n",
        "base.yaml",
    )
    recipe = load_recipe(write("base: base.yaml\n"))
    assert (recipe.name, recipe.description, recipe.reproduces) == ("mine", "", None)


def test_overrides(write):
    overrides = [
        "train.epochs=1",
        "train.epochs=2",
        "data.augment.flip=true",
        "model.weights=null",
        "reproduces.paper=obsr",
        "reproduces={table: 4, row: OBSR-Net, accuracy: 98.82}",
        "description=a = b",
    ]
    recipe = load_recipe(write(MINIMAL.replace("resnet18", "obsr, weights: imagenet")), overrides)
    assert recipe.train.epochs == 2
    assert recipe.data.augment.flip and recipe.model.weights is None
    assert (recipe.reproduces.paper, recipe.reproduces.table) == ("obsr", 4)
    assert recipe.description == "a = b"


def test_merge_keys(write):
    recipe = load_recipe(write(MINIMAL), ["train={<<: {seed: 4, epochs: 1}, epochs: 2}"])
    assert (recipe.train.seed, recipe.train.epochs) == (4, 2)


def test_null_drops_an_inherited_key_that_the_model_does_not_take(write):
    write(
        "data: {name: ferplus, labels: majority}\nmodel: {name: resnet18, stem: half}\n",
        "base.yaml",
    )
    path = write(
        "base: base.yaml\ndata: {name: fer2013, labels: null}\nmodel: {name: covpool, stem: null}\n"
    )
    recipe = load_recipe(path)
    assert "labels" not in recipe.data.model_dump()
    assert recipe.model.model_dump(exclude_none=True) == {"name": "covpool"}


def test_weights_none_means_null(write):
    assert load_recipe(write(MINIMAL), ["model.weights=none"]).model.weights is None


# Errors: location, expected and received values, remedy


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.epoch=1", "unknown key `train.epoch`. Did you mean `train.epochs`?"),
        ("epochs=1", "unknown key `epochs`. Did you mean `train.epochs`?"),
        (
            "train.learning_rate=1",
            "unknown key `train.learning_rate`. Did you mean `optimizer.learning_rate`?",
        ),
        (
            "data.augment.mirror=true",
            "unknown key `data.augment.mirror`. "
            "Known here: flip, crop, shift, rotation, blur, brightness, contrast, erasing, mixup.",
        ),
        ("data={1: 2}", "unknown key `data.1`. Known here: name, protocol, "),
        (
            "train.epochs=0",
            "`train.epochs` must be an integer (at least 1, at most 1000000). Received: 0.",
        ),
        (
            "train.epochs=true",
            "`train.epochs` must be an integer (at least 1, at most 1000000). Received: true",
        ),
        (
            "train.epochs=1.5",
            "`train.epochs` must be an integer (at least 1, at most 1000000). Received: 1.5.",
        ),
        (
            "train.devices=all",
            "`train.devices` must be auto or an integer (at least 1, at most 1024). "
            'Received: "all".',
        ),
        (
            "data={name: parquet, path: faces, class_names: [happy, 2]}",
            "`data.class_names` must be a list of at least 2, each item a string, or null. "
            "Received: 2.",
        ),
        (
            "train.epochs={a: 1}",
            "must be an integer (at least 1, at most 1000000). Received: {'a': 1}.",
        ),
        (
            "data.augment.crop=1.5",
            "`data.augment.crop` must be a number (above 0, at most 1) or null. Received: 1.5.",
        ),
        ("data.augment.flip=maybe", '`data.augment.flip` must be true or false. Received: "maybe"'),
        (
            "optimizer.learning_rate=.inf",
            "must be a number (above 0, at most 1000). Received: Infinity.",
        ),
        (
            "optimizer.learning_rate=fast",
            'must be a number (above 0, at most 1000). Received: "fast".',
        ),
        ("optimizer.ema=1", "`optimizer.ema` must be a number (above 0, below 1) or null."),
        (
            "data.protocol=subject",
            "`data.protocol` must be one of official, subjects, frames or null. "
            'Received: "subject". Did you mean subjects?',
        ),
        ("optimizer.name=lion", "must be one of sgd, adam, adamw, rmsprop, gc_sgd, gc_adam, "),
        ("train=", "`train` must be a section of keys and values. Received: null."),
        ("data=fer2013", '`data` must be a section of keys and values. Received: "fer2013".'),
        (
            "name=a/b",
            "`name` must be the name of a folder, without / and \\ and not begin",
        ),
        ("model.name=3", "slim_spd, spd_attention, vgg16, vgg19. Received: 3."),
        ("model.name=resnet81", 'vgg19. Received: "resnet81". Did you mean resnet18?'),
        ("data.name=fer2103", 'synthetic. Received: "fer2103". Did you mean fer2013?'),
        (
            "model.crops=3",
            "the model resnet18 does not take model.crops; it takes dropout, frozen, weights, "
            "stem. Remove the key, or set it to null if it is inherited.",
        ),
        (
            "data.path=faces",
            "the dataset fer2013 does not take data.path; it takes no options of its own. Remove",
        ),
        ("model.stm=half", "unknown key `model.stm`. Did you mean `model.stem`?"),
        ("model.stm=null", "unknown key `model.stm`. Did you mean `model.stem`?"),
        ("model={name: alexnet, stem: half}", "`model.stem` must be one of imagenet, small or nu"),
        ("model=3", "`model` must be a section of keys and values. Received: 3."),
        (
            "reproduces={paper: obsr, table: 4, row: x, accuracy: 101}",
            "`reproduces.accuracy` must be a number (at least 0, at most 100). Received: 101.",
        ),
        (
            "train.warmup_epochs=31",
            "`train.warmup_epochs` (31) must not exceed `train.epochs` (30), which include the "
            "warm-up. Change both, such as --set train.epochs=30 --set train.warmup_epochs=1.",
        ),
        (
            "optimizer.momentum=0.9",
            "`optimizer.momentum` belongs to sgd, rmsprop, gc_sgd, gc_rmsprop: set it to null or "
            "change `optimizer.name`. Received: momentum=0.9, name=adam.",
        ),
        ("optimizer.location=update", "`optimizer.location` belongs to gc_sgd, gc_adam, gc_adamw"),
        ("optimizer.conv_only=false", "`optimizer.conv_only` belongs to gc_sgd, gc_adam, gc_adamw"),
        (
            "optimizer.schedule={name: cosine, minimum: 1}",
            "`optimizer.schedule.minimum` must not exceed `optimizer.learning_rate` (0.001).",
        ),
        (
            "data.fold=10",
            "`data.fold` counts from 0 and must be below `data.num_folds` (10). Received: 10.",
        ),
        (
            "data={fold: 1, protocol: frames}",
            "`data.fold` needs `data.protocol: subjects`, the only protocol with folds. "
            "Received: fold=1, protocol=frames.",
        ),
        ("train.epochs", "expected KEY=VALUE, such as train.epochs=1."),
        ("=1", "expected KEY=VALUE, such as train.epochs=1."),
        ("train..epochs=1", "expected KEY=VALUE, such as train.epochs=1."),
        ("train.epochs=[1", "the value is not valid YAML: expected ',' or ']', but got"),
        ("base=other.yaml", "`base` can only be given in the recipe's file."),
    ],
)
def test_override_errors(write, override, message):
    assert error_of(write(MINIMAL), override).startswith(f"--set {override}: ")
    assert message in error_of("mine.yaml", override)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            MINIMAL + "\ntrain:\n  epoch: 1\n",
            "mine.yaml:5: unknown key `train.epoch`. Did you mean",
        ),
        (
            MINIMAL + "train: {epochs: 3}\ntrain: {seed: 1}\n",
            "mine.yaml:4: `train` is given twice.",
        ),
        ("model: {name: obsr}\n", "mine.yaml: `data` is required: The dataset"),
        ("data: {nam: ckplus}\nmodel: {name: obsr}\n", "mine.yaml:1: unknown key `data.nam`."),
        ("data: {}\nmodel: {name: obsr}\n", "mine.yaml: `data.name` is required: The dataset."),
        ("bse: x\n" + MINIMAL, "mine.yaml:1: unknown key `bse`. Did you mean `base`?"),
        ("yes: 1\n" + MINIMAL, "mine.yaml:1: unknown key `yes`. Known here: name, "),
        ("data: {name: a\nmodel: b}\n", "mine.yaml:2: not valid YAML: "),
        ("data:\n\tname: a\n", "mine.yaml:2: not valid YAML: found character '\\t'"),
        ("data: \x07", "mine.yaml: not valid YAML: "),
        ("a: 1\n---\nb: 2\n", "mine.yaml:2: not valid YAML: but found another document."),
        (
            MINIMAL + "description: 3\n",
            "`description` must be a string. Received: 3. Put it in quo",
        ),
        ("? [a]\n: b\n", "mine.yaml:1: not valid YAML: found unhashable key."),
        ("", "consists of sections such as `data:` and `model:`. Received: an empty file."),
        ("# nothing yet\n", "Received: an empty file."),
        ("- data\n- model\n", "Received: a list."),
        ("fer2013\n", 'Received: "fer2013".'),
        ("base: 3\n", "mine.yaml:1: `base` must be the path of a recipe. Received: 3."),
        ("base: missing.yaml\n", "mine.yaml:1: `base`: There is no recipe missing.yaml."),
        (
            MINIMAL + "train: &loop\n  seed: *loop\n",
            "mine.yaml:3: not valid YAML: an alias refers to what",
        ),
    ],
)
def test_file_errors(write, text, message):
    assert message in error_of(write(text))


def test_error_in_a_base_names_the_base(write):
    write(MINIMAL + "train: {epoch: 1}\n", "base.yaml")
    assert error_of(write("base: base.yaml\n")).startswith("base.yaml:3: unknown key `train.epoch`")


def test_base_circle(write):
    write("base: two.yaml\n", "one.yaml")
    write("base: one.yaml\n", "two.yaml")
    message = "`base` refers back to this recipe: one.yaml -> two.yaml -> one.yaml."
    assert error_of("one.yaml") == f"two.yaml:1: {message}"
    assert "mine.yaml -> mine.yaml." in error_of(write("base: mine.yaml\n"))


def test_missing_file(write):
    write(MINIMAL, "quickstart.yaml")
    assert error_of("quickstrt.yaml") == (
        "There is no recipe quickstrt.yaml. Did you mean quickstart.yaml?"
    )
    assert error_of("quickstart") == "There is no recipe quickstart. Did you mean quickstart.yaml?"
    assert error_of("x.yaml") == "There is no recipe x.yaml. In that folder: quickstart.yaml."
    assert error_of("no/x.yaml") == (
        "There is no recipe no/x.yaml: the folder no does not exist or cannot be read."
    )


def test_not_a_text_file(write, tmp_path):
    expected = "A recipe is a YAML file. Received: "
    assert error_of(tmp_path) == f"{expected}{tmp_path}, which is a folder."
    Path("model.keras").write_bytes(b"PK\x03\x04\xff\xfe")
    assert error_of("model.keras") == (
        "A recipe must be a text file in UTF-8. Received: model.keras, which is not."
    )


def test_several_errors_are_reported_one_at_a_time(write):
    path = write(MINIMAL + "train: {epochs: 0, sed: 1}\n")
    assert error_of(path) == "mine.yaml:3: unknown key `train.sed`. Did you mean `train.seed`?"


# Values that YAML would read as something else


@pytest.mark.parametrize(
    "typed",
    ["/x/faces #2", "#2", "2024", "007", "2024-01-01", "on", "1:30", "@home", "a: b", "[x]", "*.x"],
)
def test_an_override_of_a_string_is_not_converted(write, typed):
    recipe = load_recipe(
        write("data: {name: folder}\nmodel: {name: vgg16}\n"), [f"data.path={typed}"]
    )
    assert recipe.data.path == typed


def test_quotes_and_null_keep_their_meaning(write):
    path = write("data: {name: folder, path: x}\nmodel: {name: vgg16}\n")
    assert load_recipe(path, ["data.path=null"]).data.path is None
    assert load_recipe(path, ["data.path='a # b'"]).data.path == "a # b"
    assert "must be a string. Received: null." in error_of(path, "description=null")
    assert "'# c' follows the value" in error_of(path, "train={epochs: 3} # c")
    assert 'must be an integer (at least 1, at most 1000000). Received: "3 # c"' in error_of(
        path, "train.epochs=3 # c"
    )


def test_a_date_is_a_string(write):
    assert load_recipe(write(MINIMAL + "name: 2024-01-31\n")).name == "2024-01-31"


# Keys without effect


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            ["optimizer.schedule.factor=0.5"],
            "factor` has no effect unless `optimizer.schedule.name",
        ),
        (
            ["optimizer.schedule.every_epochs=5"],
            "` is step. Remove it or set it to its default, 20",
        ),
        (
            ["optimizer.schedule={name: step, minimum: 1e-5}"],
            "unless `optimizer.schedule.name` is c",
        ),
        (
            ["data.protocol=frames", "data.num_folds=5"],
            "`data.num_folds` has no effect with protoc",
        ),
        (
            ["data.protocol=subjects", "data.validation_fraction=0.2"],
            "`data.validation_fraction` has no effect with protocol=subjects. Remove it or ",
        ),
        (
            ["train.epochs=5", "train.warmup_epochs=3", "optimizer.schedule.warmup_epochs=3"],
            "`optimizer.schedule.warmup_epochs` (3) must not exceed `train.epochs` (5) without "
            "`train.warmup_epochs` (3), since the schedule acts in these 2 epochs only.",
        ),
        (
            ["train.epochs=5", "train.warmup_epochs=5", "optimizer.schedule.name=cosine"],
            "`optimizer.schedule.name` has no effect, since `train.warmup_epochs` (5) takes all",
        ),
        (
            ["train.epochs=2", "train.warmup_epochs=2", "optimizer.ema=0.9"],
            "`optimizer.ema` has no",
        ),
        (["distill={teacher: x, weight: 0}"], "are both 0, so that the teacher has no effect"),
        (["distill={teacher: x, features: attention}"], "`distill.features` has no effect while"),
        (
            ["distill={teacher: x, weight: 0, feature_weight: 1, temperature: 2}"],
            "`distill.temperature` has no effect while `distill.weight` is 0.",
        ),
        (["data.landmarks=x.csv"], "`data.landmarks` has no effect unless `model.crop_mode` is"),
    ],
)
def test_a_key_without_effect_is_an_error(write, changes, message):
    assert message in error_of(write(MINIMAL), *changes)


def test_the_warm_up_is_named_with_the_epochs_that_were_changed(write):
    path = write(MINIMAL + "train: {epochs: 30, warmup_epochs: 3}\n")
    assert error_of(path, "train.epochs=2").endswith(
        "(3) must not exceed `train.epochs` (2), which include the warm-up. Change both, such as "
        "--set train.epochs=2 --set train.warmup_epochs=1."
    )


# The schema


def test_schema_describes_every_key():
    schema = recipe_schema()
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        for key, part in section["properties"].items():
            described = part if "description" in part else schema["$defs"][part["$ref"][8:]]
            assert described["description"].strip(), key
    assert "base" in schema["properties"]
    assert "required" not in schema


def test_recipe_from_python():
    recipe = Recipe.model_validate({"data": {"name": "synthetic"}, "model": {"name": "resnet18"}})
    assert recipe.name == "recipe"


def test_imports_no_keras():
    code = "import sys, kerasfer.recipe; print({'keras', 'tensorflow', 'numpy'} & {*sys.modules})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"

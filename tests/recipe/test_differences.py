from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.differences import differences

RECIPE = "data: {name: ferplus}\nmodel: {name: spd_attention}\noptimizer: {name: sgd}\n"


def load(tmp_path, *overrides, text=RECIPE):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def test_values_in_the_order_of_the_recipe(tmp_path):
    a = load(tmp_path)
    b = load(tmp_path, "train.epochs=2", "data.labels=majority", "optimizer.momentum=0.9")
    assert differences(a, b) == {
        "data.labels": (None, "majority"),
        "optimizer.momentum": (None, 0.9),
        "train.epochs": (30, 2),
    }
    assert differences(a, a) == {}


def test_another_model_and_a_whole_section(tmp_path):
    a = load(tmp_path, "model.crops=3")
    b = load(tmp_path, "model={name: resnet18, stem: half}", "distill.teacher=runs/x")
    changed = differences(a, b)
    assert changed["model.name"] == ("spd_attention", "resnet18")
    assert changed["model.crops"] == (3, None) and changed["model.stem"] == (None, "half")
    assert changed["distill.teacher"] == (None, "runs/x")
    assert differences(b, a).keys() == changed.keys()


def test_keys_that_do_not_change_the_result(tmp_path):
    free = [
        "name=other",
        "description=Another text.",
        "reproduces={paper: obsr, table: 4, row: OBSR-Net, accuracy: 98.82}",
        "data.workers=7",
        "train.backend=torch",
        "train.tensorboard=false",
        "train.verbose=0",
    ]
    assert differences(load(tmp_path), load(tmp_path, *free)) == {}


def test_a_key_that_an_older_version_did_not_write_has_its_default(tmp_path):
    recipe = load(tmp_path)
    older = dump(recipe).replace("  label_smoothing: 0.0\n", "")
    assert older != dump(recipe)
    assert differences(load(tmp_path, text=older), recipe) == {}
    changed = load(tmp_path, "train.label_smoothing=0.1")
    assert differences(load(tmp_path, text=older), changed) == {"train.label_smoothing": (0, 0.1)}

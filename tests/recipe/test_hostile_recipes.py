"""Damaged and hostile recipes: one line each, in bounded time and memory."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasfer.errors import RecipeError
from kerasfer.recipe import dump, load_recipe
from kerasfer.recipe.schema import recipe_schema

MINIMAL = "data: {name: fer2013}\nmodel: {name: resnet18}\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGED = "a0: &a0 {x0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


def error_of(text, *overrides, name="mine.yaml"):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return failure(name, *overrides)


def failure(path, *overrides):
    """Returns the error, which must come soon, fit on a line and be printable."""
    started = time.monotonic()
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert message.isprintable() and len(message) < 1000, message
    message.encode()
    return message


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "text, message",
    [
        ("train: {epochs: !!int ''}", 'mine.yaml:3: not valid YAML: "" is not of the type int.'),
        ("train: {seed: !!int x}", '"x" is not of the type int'),
        ("optimizer: {ema: !!float ''}", '"" is not of the type float'),
        ("train: {tensorboard: !!bool maybe}", '"maybe" is not of the type bool'),
        ("name: !!timestamp x", "could not determine a constructor for the tag"),
        ("name: !!binary x", "could not determine a constructor for the tag"),
        ("name: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("train: !!set {a, b}", "could not determine a constructor for the tag"),
        ("train: " + "[" * 500 + "]" * 500, "nested more than 20 levels deep"),
        ("train: " + "{a: " * 500 + "}" * 500, "nested more than 20 levels deep"),
        ("train:\n" + "".join(" " * n + "a:\n" for n in range(1, 500)), "nested more than 20"),
        ("train: " + "- " * 500, "mine.yaml:3: not valid YAML: "),
        (BOMB, "aliases stand for more than 20,000 values"),
        (MERGED, "aliases stand for more than 20,000 values"),
        ("train: &a {seed: *a}", "an alias refers to what contains it"),
        ("train: *nowhere", "found undefined alias"),
        ('name: "\\ud800"', "found a NUL or half a surrogate pair in a string"),
        ('name: "a\\0b"', "found a NUL or half a surrogate pair in a string"),
        ('base: "a\\0b"', "found a NUL or half a surrogate pair in a string"),
        ('"\\ud800": 1', "found a NUL or half a surrogate pair in a string"),
        ('name: "a\\nb"', "`name` must be the name of a folder, without / and \\ and not begin"),
        ("name: " + "x" * 300, "`name` must be the name of a folder"),
        ("base: " + "x" * 5000, "`base`: There is no recipe xxx"),
        ("base: .", "which is a folder"),
        ("train: {epochs: " + "9" * 400 + "}", "`train.epochs` must be an integer"),
        ("train: {epochs: " + "9" * 5000 + "}", "is not of the type int"),
        ("train: {precision: " + "x" * 100_000 + "}", 'Received: "xxx'),
        ("x" * 1000 + ": 1", "unknown key `xxx"),
        ("? " + "x" * 100_000 + "\n: 1", "unknown key `xxx"),
        ("train: {" + ", ".join(f"k{n}: 1" for n in range(5000)) + "}", "unknown key `train.k0`"),
        ("optimizer: {learning_rate: 1e300}", "must be a number (above 0, at most 1000)"),
        ("distill: {teacher: x, temperature: 1e300}", "must be a number (above 0, at most 1000)"),
        ("model: " + "x" * 250_000, "A recipe must not exceed 200,000 bytes. Received: mine.yaml"),
        ("%YAML 9.9\n---\na: 1", "mine.yaml:3: not valid YAML: "),
        ("name: 'open", "mine.yaml:4: not valid YAML: "),
    ],
    ids=lambda value: value[:30],
)
def test_damaged_files(text, message):
    assert message in error_of(f"{MINIMAL}{text}\n")


def test_numbers_are_bounded():
    """A number that is allowed at all must not take unbounded time or memory."""
    schema = recipe_schema()
    unbounded = {
        f"{name}.{key}"
        for name, section in schema["$defs"].items()
        for key, part in section["properties"].items()
        for option in (part, *part.get("anyOf", ()))
        if option.get("type") in ("integer", "number")
        and "enum" not in option
        and not {"maximum", "exclusiveMaximum"} & set(option)
    }
    # These are bounded by other keys.
    assert unbounded == {"Schedule.minimum"} | {
        f"dataset_{name}.fold" for name in schema["properties"]["data"]["discriminator"]["mapping"]
    }


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.epochs=!!int ''", 'the value is not valid YAML: "" is not of the type int.'),
        ("train=" + "[" * 500, "the value is not valid YAML: values are nested more than"),
        ("train.epochs=" + "x" * 100_000, "must be an integer (at least 1, at most 1000000). Rec"),
        ("train." + "x" * 100_000 + "=1", "unknown key `train.xxx"),
        (".".join("x" * 2000) + "=1", "a key has at most 20 parts. Received: 2000."),
        ("name=a\0b", "a NUL, or bytes that are not UTF-8, cannot be in a recipe."),
        ("data.path=\udcff", "a NUL, or bytes that are not UTF-8, cannot be in a recipe."),
        ("\ud800=1", "a NUL, or bytes that are not UTF-8, cannot be in a recipe."),
        ("train.epochs=&a [*a]", "an alias refers to what contains it"),
        ("train.epochs=!x 1", "could not determine a constructor for the tag '!x'"),
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_damaged_overrides(override, message):
    assert message in error_of(MINIMAL, override)


@pytest.mark.parametrize("text", [b"\xff\xfe", b"\0", b"\x89PNG", "name: é\n".encode("latin-1")])
def test_files_that_are_not_text(text):
    assert error_of(text).startswith(("A recipe must be a text file", "mine.yaml: not valid YAML"))


def test_only_regular_files_are_read(folder):
    os.mkfifo("pipe.yaml")
    os.symlink("loop.yaml", "loop.yaml")
    assert failure("pipe.yaml").endswith("Received: pipe.yaml, which is not a regular file.")
    assert failure("/dev/zero").endswith("Received: /dev/zero, which is not a regular file.")
    assert failure("loop.yaml").startswith("Cannot read loop.yaml: ")
    assert failure("a\0b").endswith("not a valid path.")
    assert "pipe.yaml, which is not a regular file" in error_of("base: pipe.yaml\n")
    assert "Cannot read loop.yaml: " in error_of("base: loop.yaml\n")


def test_a_chain_of_bases_is_limited():
    for number in range(40):
        Path(f"{number}.yaml").write_text(f"base: {number + 1}.yaml\n")
    Path("40.yaml").write_text(MINIMAL)
    assert "`base`: more than 20 recipes inherit in a row" in failure("0.yaml")
    assert load_recipe("25.yaml").model.name == "resnet18"


def test_a_folder_with_many_recipes_is_not_listed_whole():
    for number in range(200):
        Path(f"recipe_{number}.yaml").touch()
    Path("odd\nname.yaml").touch()
    assert failure("other").count("recipe_") == 19


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("text", [BOMB, MERGED, "a: " + "x, " * 60_000], ids=["bomb", "merge", "x"])
def test_memory_is_bounded(text):
    Path("mine.yaml").write_text(text)
    code = (
        "from kerasfer.errors import RecipeError\n"
        "from kerasfer.recipe import load_recipe\n"
        "try: load_recipe('mine.yaml')\n"
        "except RecipeError as error: print(error)\n"
        "status = open('/proc/self/status').read()\n"
        "print(status.partition('VmHWM:')[2].split()[0])\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert out.stderr == "" and int(out.stdout.split()[-1]) < 300_000  # kB


# Random recipes

KEYS = sorted(
    {
        key
        for section in (recipe_schema(), *recipe_schema()["$defs"].values())
        for key in section["properties"]
    }
    | {"<<", "", "1", "on"}
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["resnet18", "obsr", "synthetic", "folder", "cosine", "sgd", "imagenet"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(KEYS), below),
    max_leaves=12,
)
RECIPES = st.fixed_dictionaries(
    {"data": VALUES, "model": VALUES},
    optional={key: VALUES for key in ("name", "base", "train", "optimizer", "distill", "evaluate")},
)


def check_file(text, overrides=()):
    """A recipe loads and round-trips, or is refused in one printable line; no file is written.

    Returns:
        Whether it loads.
    """
    before = sorted(os.listdir("."))
    Path("mine.yaml").write_bytes(text)
    try:
        recipe = load_recipe("mine.yaml", overrides)
    except RecipeError as error:
        assert str(error).isprintable() and len(str(error)) < 2000, str(error)
        accepted = False
    else:
        Path("mine.yaml").write_text(dump(recipe), encoding="utf-8")
        assert load_recipe("mine.yaml") == recipe
        accepted = True
    Path("mine.yaml").unlink()
    assert sorted(os.listdir(".")) == before
    return accepted


@pytest.fixture
def examples(request):
    return 1000 if "fuzz" in request.config.getoption("-m") else 100


def run(examples, inputs, strategy, check):
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def runs(value):
        inputs["accepted" if check(value) else "refused"] += 1

    runs()


@pytest.mark.fuzz
def test_random_values(folder, inputs, examples):
    def check(values):
        try:
            text = yaml.safe_dump(values, allow_unicode=True).encode("utf-8", "surrogatepass")
        except yaml.YAMLError:
            return False
        return check_file(text)

    run(examples, inputs, RECIPES, check)


@pytest.mark.fuzz
def test_random_changes_of_a_file(folder, inputs, examples):
    whole = dump(load_recipe("quickstart")).encode()
    change = st.tuples(st.integers(0, len(whole)), st.integers(0, 40), st.binary(max_size=8))

    def check(changes):
        text = whole
        for place, length, inserted in changes:
            text = text[:place] + inserted + text[place + length :]
        return check_file(text)

    run(examples, inputs, st.lists(change, min_size=1, max_size=4), check)


@pytest.mark.fuzz
def test_random_text(folder, inputs, examples):
    tokens = ["{", "}", "[", "]", ": ", "- ", "\n", "  ", "&a ", "*a", "!!int ", "'", '"', "|", "#"]
    texts = st.lists(st.sampled_from([*tokens, *KEYS]) | st.text(max_size=4), max_size=40)
    run(
        examples,
        inputs,
        texts,
        lambda parts: check_file("".join(parts).encode("utf-8", "surrogatepass")),
    )


@pytest.mark.fuzz
def test_random_overrides(folder, inputs, examples):
    keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join)
    overrides = st.lists(st.tuples(keys, st.text(max_size=12)).map("=".join), max_size=3)
    run(examples, inputs, overrides, lambda changes: check_file(MINIMAL.encode(), changes))

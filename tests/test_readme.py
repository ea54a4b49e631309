import re
from pathlib import Path

from reference import replace_reference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_python_snippets_run_one_after_another(tmp_path, monkeypatch):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["model"].optimizer is names["optimizer"]
    assert names["wide"].output_shape == names["small"].output_shape == (None, 7)
    assert names["metrics"]["num_samples"] == 28


def test_every_recipe_is_in_the_table():
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert f"`{recipe.stem}`" in README


def test_named_recipes_exist():
    for recipe in re.findall(r"recipes/\w+\.yaml", README):
        assert (ROOT / recipe).exists()


def test_ci_runs_the_readme_s_test_command():
    (command,) = [block.strip() for block in blocks("bash") if "-m tests" in block]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_reference_is_up_to_date():
    assert replace_reference(README) == README, "run python tests/reference.py"


def test_setup_commands_are_written_once():
    assert README.count("pip install -q -e . ") == 1
    assert README.count("-m tests") == 1

"""Reads the YAML file of a table: the run that fills each cell, and the published value.

    recipe of the table → of the column, then the row → their changes → `--set` → recipe of a cell

Cells with the same recipe share one run, within a table and between tables. This module does not
import Keras.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from kerasfer.errors import RecipeError
from kerasfer.options import ListName, Paper, Section
from kerasfer.recipe import load_recipe, parse_file
from kerasfer.recipe.differences import differences
from kerasfer.recipe.schema import MODEL, Recipe
from kerasfer.recipe.shipped import find
from kerasfer.text import closest

CLASS_METRICS = ("precision", "recall", "f1")
METRICS = ("accuracy", "macro_recall", "macro_f1", *CLASS_METRICS)


class Part(Section):
    """The keys that columns and rows have in common."""

    recipe: str | None = Field(None, description="Recipe, relative to the file of the table.")
    model: dict | None = Field(
        None, description="A whole `model` section that replaces that of the recipe."
    )


class Column(Part):
    """A dataset, a list of its pictures, or a score."""

    changes: list[str] = Field(
        [], alias="set", description="Changes of the recipe, such as data.protocol=frames."
    )
    list_name: ListName | None = Field(
        None, alias="list", description="Evaluate only the test pictures of this list."
    )
    metric: Literal[METRICS] = Field("accuracy", description="What the column shows.")


class Row(Part):
    """A method."""

    changes: list[str] | dict[str, list[str]] = Field(
        [], alias="set", description="Changes of the recipe, for all columns or by column."
    )
    run_name: str | None = Field(
        None, alias="run", description="Name of its runs, if the name of the row is too long."
    )
    class_name: str | None = Field(
        None, description="Class that is scored, in columns of precision, recall and f1."
    )
    paper: dict[str, float] = Field({}, description="Published values by column.")
    against: str | None = Field(
        None, description="Row that this row is compared with, test picture by test picture."
    )
    quoted: str | None = Field(
        None, description="Why the row is only quoted and cannot be trained."
    )


class Figure(Section):
    """A figure of the paper, drawn from the runs of the table."""

    kind: Literal["confusion", "loss", "gradient_norm", "accuracy_time"] = Field(
        description="What is drawn."
    )
    rows: list[str] | None = Field(None, description="Rows that are drawn. Default: all.")
    title: str = Field("", description="Title.")


class TableFile(Section):
    """A table of a paper. Recipes say how its cells are trained."""

    title: str = Field(description="Heading.")
    paper: Paper = Field(description="The paper.")
    table: int | None = Field(None, ge=1, description="Number of the table. Null for a study.")
    unit: Literal["percent", "fraction"] = Field("percent", description="Unit of all values.")
    note: str = Field("", description="A remark for readers of the table.")
    recipe: str | None = Field(None, description="Recipe of the cells, relative to this file.")
    changes: list[str] = Field([], alias="set", description="Changes of every recipe.")
    seeds: list[int] | None = Field(
        None,
        min_length=1,
        description="Train each cell once for each of these seeds, and show the mean and the "
        "standard deviation. Default: the seed of the recipe.",
    )
    columns: dict[str, Column] = Field(min_length=1, description="Columns by name.")
    rows: dict[str, Row] = Field(min_length=1, description="Rows by name.")
    figures: dict[str, Figure] = Field({}, description="Figures by the name of their file.")

    @model_validator(mode="after")
    def _check_names(self):
        for name, row in self.rows.items():
            by_column = row.changes if isinstance(row.changes, dict) else {}
            for column in (*row.paper, *by_column):
                if column not in self.columns:
                    raise ValueError(
                        f"`rows.{name}` names the column {column!r}; the table has "
                        f"{', '.join(self.columns)}."
                    )
            if row.against is not None and (row.against == name or row.against not in self.rows):
                others = ", ".join(other for other in self.rows if other != name)
                raise ValueError(
                    f"`rows.{name}.against` must be another row of the table: {others}. Received: "
                    f"{row.against!r}."
                )
            scored = any(column.metric in CLASS_METRICS for column in self.columns.values())
            if scored != (row.class_name is not None):
                raise ValueError(
                    f"`rows.{name}.class_name` belongs to tables with columns of precision, recall "
                    f"and f1, and only to these. Received: {row.class_name!r}."
                )
        for name, figure in self.figures.items():
            for row in figure.rows or ():
                if row not in self.rows:
                    raise ValueError(
                        f"`figures.{name}` names the row {row!r}; the table has "
                        f"{', '.join(self.rows)}."
                    )
        return self


@dataclass(frozen=True)
class Cell:
    """One value of a table.

    Args:
        row, column: Its names.
        paper: The published value, in the unit of the table, or None.
        quoted: The reason why it is only quoted, or None if it can be trained.
        recipes: The `kerasfer.recipe.schema.Recipe`s that fill it, one for each seed. The name of a
            recipe is that of its run folder. Empty for a quoted cell.
        metric: A key of `metrics.json`, or of its `per_class`.
        class_name: The class that is scored, or None.
        list_name: The list of test pictures that are evaluated, or None for all of them.
    """

    row: str
    column: str
    paper: float | None
    quoted: str | None
    recipes: tuple[Recipe, ...]
    metric: str
    class_name: str | None
    list_name: str | None

    @property
    def recipe(self):
        """The recipe of the first seed, or None for a quoted cell."""
        return self.recipes[0] if self.recipes else None


@dataclass(frozen=True)
class Table:
    """A table that was read.

    Args:
        path: The file.
        file: `TableFile`, its content.
        cells: List of `Cell`, row by row.
        overrides: The additional changes by `--set`, such as `{"train.epochs": 2}`.
    """

    path: Path
    file: TableFile
    cells: list
    overrides: dict


def load_table(path, overrides=()):
    """Reads the file of a table and the recipe of every cell.

    Args:
        path: The YAML file.
        overrides: Strings `"key.path=value"`, for the recipes of all cells. The names of such runs
            contain the changes, so that a shortened run is never mistaken for the published one.

    Returns:
        `Table`.

    Raises:
        RecipeError: At the first error, in one line.

    Example:

    ```python
    table = load_table("recipes/tables/spd_table1.yaml")
    [cell.recipe.name for cell in table.cells if cell.row == "SPD-Attention"]
    ```
    """
    path = find(path, "tables")
    values, places = parse_file(path, "table", "`title:`, `columns:` and `rows:`")
    try:
        file = TableFile.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, places)) from None
    cells, changed = [], {}
    for row_name, row in file.rows.items():
        for column_name, column in file.columns.items():
            recipes = ()
            if row.quoted is None:
                where = f"{path}: row {row_name}, column {column_name}"
                recipe, extra = _cell_recipe(path, file, row_name, column_name, overrides, where)
                recipes = tuple(_with_seeds(recipe, file.seeds))
                changed |= extra
            elif column_name not in row.paper:
                continue
            cells.append(
                Cell(
                    row=row_name,
                    column=column_name,
                    paper=row.paper.get(column_name),
                    quoted=row.quoted,
                    recipes=recipes,
                    metric=column.metric,
                    class_name=row.class_name,
                    list_name=column.list_name,
                )
            )
    _check_runs(path, cells)
    return Table(path, file, cells, changed)


def _check_runs(path, cells):
    """Checks that no two recipes would be trained in one folder."""
    runs = {}
    for cell in cells:
        for recipe in cell.recipes:
            first, other = runs.setdefault(recipe.name, (cell, recipe))
            changed = differences(other, recipe)
            if changed:
                raise RecipeError(
                    f"{path}: the rows {first.row} ({first.column}) and {cell.row} ({cell.column}) "
                    f"would share the run {recipe.name}, but differ in {', '.join(changed)}. Name "
                    "the runs of one of them with `run:`, and leave out --set name."
                )


def _with_seeds(recipe, seeds):
    """Yields a recipe for each seed. The recipe with the original seed keeps its name."""
    for seed in seeds or [recipe.train.seed]:
        if seed == recipe.train.seed:
            yield recipe
            continue
        train = recipe.train.model_copy(update={"seed": seed})
        yield recipe.model_copy(update={"train": train, "name": f"{recipe.name}-seed{seed}"})


def _cell_recipe(path, file, row_name, column_name, overrides, where):
    """Returns the recipe of a cell, with the name of its run, and the changes by `--set`."""
    row, column = file.rows[row_name], file.columns[column_name]
    named = row.recipe or column.recipe or file.recipe
    if named is None:
        raise RecipeError(f"{where}: no recipe is named. Add `recipe:` to the table or the row.")
    in_row = row.changes if isinstance(row.changes, list) else row.changes.get(column_name, [])
    changes = [*file.changes, *column.changes, *_whole_model(row.model or column.model), *in_row]
    parts = {
        slug(path.stem): file.changes,
        slug(row.run_name or row_name): row.changes or row.model,
        slug(column_name): column.changes or column.model,
    }
    suffixes = [part for part, is_changed in parts.items() if is_changed]
    source = path.parent / named
    try:
        published = load_recipe(source, changes)
        if suffixes:
            changes += [
                f"name={json.dumps('-'.join([published.name, *suffixes]))}",
                f"reproduces={_reproduces(file, row, row_name, column_name)}",
            ]
            published = load_recipe(source, changes)
        recipe = load_recipe(source, [*changes, *overrides])
        extra = {key: now for key, (_, now) in differences(published, recipe).items()}
        if extra:
            name = "+".join([recipe.name, *(f"{key}={slug(now)}" for key, now in extra.items())])
            recipe = recipe.model_copy(update={"name": name})
    except RecipeError as error:
        raise RecipeError(f"{where}: {error}") from None
    return recipe, extra


def _whole_model(model):
    """Returns the changes that replace a model with another one and keep none of its keys."""
    if model is None:
        return []
    forgotten = sorted(MODEL.known_keys() - {"name", *model})
    return [*(f"model.{key}=null" for key in forgotten), f"model={json.dumps(model)}"]


def _reproduces(file, row, row_name, column_name):
    column = file.columns[column_name]
    published = row.paper.get(column_name)
    if published is None or column.list_name or column.metric != "accuracy" or file.table is None:
        return "null"
    place = {"paper": file.paper, "table": file.table, "row": row_name, "accuracy": published}
    return json.dumps(place | {"column": column_name if len(file.columns) > 1 else None})


def slug(text):
    """Turns any text into a part of a folder name: `"ResNet34 + GC"` becomes `resnet34-gc`."""
    return re.sub(r"[^\w.]+", "-", str(text).lower()).strip("-.") or "none"


def _explain(error, path, places):
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    keys = tuple(str(key) for key in problem["loc"])
    given = (places[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in places)
    place, name = next(given, path), ".".join(keys)
    if problem["type"] == "value_error":
        return f"{place}: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{place}: `{name}` is required."
    if problem["type"] == "extra_forbidden":
        section = {"columns": Column, "rows": Row, "figures": Figure}.get(keys[0])
        fields = (section if section and len(keys) > 1 else TableFile).model_fields
        known = [field.alias or name for name, field in fields.items()]
        close = closest(keys[-1], known)
        hint = f"Did you mean `{close}`?" if close else f"Known here: {', '.join(known)}."
        return f"{place}: unknown key `{name}`. {hint}"
    expected = problem["msg"].removeprefix("Input should be ")
    return f"{place}: `{name}` must be {expected}. Received: {problem['input']!r}."

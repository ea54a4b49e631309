"""Checks whether the batches of a recipe can be shared evenly."""

from kerasfer.errors import RecipeError


def check_even(recipe, number, sharers):
    """Checks that the batches of training and evaluation can be divided into equal parts.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        number: The number of parts.
        sharers: Who receives a part each, such as `"devices"`, for the message.

    Raises:
        RecipeError: If a batch size is not a multiple of the number.
    """
    for section in ("data", "evaluate"):
        size = getattr(recipe, section).batch_size
        if size % number:
            raise RecipeError(
                f"{section}.batch_size must be a multiple of the number of {sharers}, {number}. "
                f"Received: {size}."
            )

"""The command `kerasfer models`."""

import click

from kerasfer.cli.shared import Group
from kerasfer.text import percent


@click.group(cls=Group, invoke_without_command=True)
@click.pass_context
def models(ctx):
    """List the pretrained models, or show the model card of one.

    \b
    Examples:
      kerasfer models
      kerasfer models show NAME
    """
    if ctx.invoked_subcommand is None:
        from kerasfer.models.pretrained import DEFAULT, list_pretrained, read_facts

        for name in list_pretrained():
            click.echo(_describe(name, read_facts(name), is_default=name == DEFAULT))


@models.command()
@click.argument("name")
def show(name):
    """Show the model card of the pretrained model NAME."""
    from kerasfer.models.pretrained import read_card

    click.echo(read_card(name))


def _describe(name, facts, is_default):
    """Formats the facts of a pretrained model as aligned lines."""
    test = facts["test"]
    low, high = test["accuracy_interval"]
    lines = {
        "classes": ", ".join(facts["class_names"]),
        "input": f"{facts['image_size']} x {facts['image_size']} pixels",
        "size": f"{facts['size_bytes'] / 1e6:.1f} MB",
        "accuracy": f"{percent(test['accuracy'])} [{percent(low)}, {percent(high)}], macro recall "
        f"{percent(test['macro_recall'])}",
        "data": f"{test['dataset']}, {test['split']} split, {test['num_samples']:,} pictures",
    }
    title = f"{name} (default)" if is_default else name
    return "\n".join([title, *(f"  {key:<10}{value}" for key, value in lines.items())])

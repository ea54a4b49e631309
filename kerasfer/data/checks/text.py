"""Formats the findings of `kerasfer.data.checks` as text."""


def describe(findings):
    """Formats findings as text: a table of the classes, then one line per finding.

    Args:
        findings: The dict that `kerasfer.data.checks.check` returns.

    Returns:
        A text of several lines.
    """
    sizes = findings["sizes"]
    title = f"{findings['dataset']}: {findings['num_samples']:,} pictures"
    if sizes:
        smallest, largest = (_size(sizes[key]) for key in ("smallest", "largest"))
        title += f" of {smallest}" + f" to {largest}" * (smallest != largest) + " pixels"
    lines = {
        "official": _official(findings),
        "unreadable": _unreadable(findings["unreadable"]),
        "exact duplicates": _exact(findings["exact_duplicates"]),
        "near duplicates": _near(findings["near_duplicates"]),
        "changed copies": _changed(findings["changed_duplicates"]),
        "persons": _subjects(findings["subjects"]),
    }
    lines |= {
        f"list {name}": found.get("summary", found.get("problem"))
        for name, found in findings["lists"].items()
    }
    return "\n".join(
        [
            title,
            *_table(findings),
            *(f"{'note':<18}{note}" for note in findings["notes"]),
            *(f"{name:<18}{line}" for name, line in lines.items()),
        ]
    )


def _table(findings):
    """Lists the pictures of each class and split, with differences from the release in brackets."""
    counts = findings["counts"]
    off = {
        (one["split"], one["class"]): one["found"] - one["official"]
        for one in findings["differences"]
    }
    rows = [("", *counts)]
    for number, name in enumerate(findings["class_names"]):
        cells = []
        for split in counts:
            change = off.get((split, name))
            cells.append(f"{counts[split][name]:,}" + (f" ({change:+,})" if change else ""))
        rows.append((f"{number} {name}", *cells))
    rows.append(("all", *(f"{sum(classes.values()):,}" for classes in counts.values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join(["", row[0].ljust(widths[0]), *cells])


def _official(findings):
    official = findings["official"]
    if official is None:
        return "no official numbers are known for this dataset"
    if not findings["differences"]:
        return f"all numbers equal those of {official['release']}"
    parts = []
    for split, classes in official["counts"].items():
        found = sum(findings["counts"].get(split, {}).values())
        parts.append(f"{split} {found:,} of {sum(classes.values()):,}")
    text = f"differs from {official['release']}, in brackets: {', '.join(parts)}"
    if findings["splits_in_another_class_order"]:
        splits = ", ".join(findings["splits_in_another_class_order"])
        text += f". THE CLASSES OF {splits} SEEM TO BE IN ANOTHER ORDER: their numbers are swapped"
    return text


def _unreadable(unreadable):
    if not unreadable["pictures"]:
        return "none"
    shown = ", ".join(one["id"] for one in unreadable["list"][:3])
    return f"{unreadable['pictures']:,}: {shown}" + " …" * (unreadable["pictures"] > 3)


def _exact(found):
    text = _partners(found, "an identical picture")
    if found["groups_with_several_classes"]:
        text += (
            f"; {found['pictures_with_several_classes']:,} have one with another class, in "
            f"{found['groups_with_several_classes']:,} of {found['groups']:,} groups"
        )
    return text


def _near(found):
    text = _partners(found, f"a similar one (within {found['distance']} of 256 bits)")
    if found["pairs_with_two_classes"]:
        text += (
            f"; {found['pairs_with_two_classes']:,} of {found['pairs']:,} pairs have two classes"
        )
    return text


def _changed(found):
    text = _partners(found, "a mirrored or slightly rotated copy")
    if found["pairs_with_two_classes"]:
        text += (
            f"; {found['pairs_with_two_classes']:,} of {found['pairs']:,} pairs have two classes"
        )
    return text


def _partners(found, partner):
    if not found["pictures"]:
        return "none"
    text = f"{found['pictures']:,} pictures have {partner}"
    across = [
        f"{one['pictures']:,} of {one['split']} in {one['other']}"
        for one in found["across"]
        if one["pictures"]
    ]
    within = [f"{number:,} within {split}" for split, number in found["within"].items() if number]
    return f"{text}: {', '.join(across + within)}"


def _subjects(found):
    if found is None:
        return "the persons are unknown"
    shared = [
        f"{number:,} in both training and test with the protocol {protocol}"
        for protocol, number in found["in_train_and_test"].items()
    ]
    return f"{found['subjects']:,}; {', '.join(shared)}" if shared else f"{found['subjects']:,}"


def _size(size):
    return f"{size[0]} x {size[1]}"

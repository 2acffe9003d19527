"""Text from outside (names of files, labels, data sets) made harmless where it is shown. Imports nothing of ours."""


def one_line(text: str) -> str:
    """
    For the terminal: line breaks, control characters, and what no encoding has are shown as Python writes them (`\\n`,
    `\\x1b`, `\\udcff`), so that a name can neither move the cursor nor pass for a line of ours.
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def printable(text: str) -> str:
    """[`one_line`] for each line of a text of ours."""
    return "\n".join(map(one_line, text.split("\n")))

"""Text from outside (names of files, labels, data sets) made harmless where it is shown. Imports nothing of ours."""

from typing import Any


_MARKDOWN = {character: f"\\{character}" for character in "\\`*[]|"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
# Double braces are code to sites that render Markdown as templates.
_MARKDOWN |= {"{": "&#123;", "}": "&#125;"}


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


def markdown(text: str) -> str:
    """For prose and tables in Markdown: no mark-up, HTML, template or line break of the text has an effect."""
    return one_line(text).translate(str.maketrans(_MARKDOWN))


def markdown_code(text: str) -> str:
    """For the inside of a code span, which a backtick would end."""
    return one_line(text).replace("`", "'")


def markdown_names(tree: Any) -> Any:
    """A copy of what a JSON file holds, with all its texts, keys included, fit for Markdown."""
    if isinstance(tree, dict):
        return {markdown(key): markdown_names(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [markdown_names(value) for value in tree]
    return markdown(tree) if isinstance(tree, str) else tree

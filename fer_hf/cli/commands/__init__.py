"""
The sub-commands of `fer-hf`, one file each. A file's docstring is the command's help, `add_flags` adds its flags to a
parser, and `run` does it. What is slow to load is imported in `run`: a help page must not wait for it.
"""

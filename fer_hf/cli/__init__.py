"""Words from a terminal: flags, launching, the course of a training, and the sub-commands of `fer-hf`."""

"""Words from a terminal: flags, launching, what recipes share, and the sub-commands of `fer-hf`."""

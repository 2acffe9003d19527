"""The networks: `configuration_<name>.py` and `modeling_<name>.py`, which a saved checkpoint carries with it."""

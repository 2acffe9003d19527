"""
Scripts that train: `python recipes/train.py` in a checkout, `python -m fer_hf.recipes.train` wherever fer_hf is
installed. Their configs are beside them, in `configs`.
"""

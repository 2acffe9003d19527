"""Near copies: which faces correlate highly with which others, without comparing every pair in full."""

import numpy as np
from datasets.utils import tqdm


_CELL = 4  # pixels on a side of a cell of the screen
_BLOCK = 2048  # faces


def best_correlations(faces: np.ndarray, others: np.ndarray, least: float) -> np.ndarray:
    """
    For every face, its highest Pearson correlation over all pixels with any of the others.

    Most pairs are passed over by an exact screen: for unit vectors split into cell means and the rest, the product of
    the cell means plus that of the lengths of the rests is never below the full product (Cauchy and Schwarz).

    Args:
        faces (`np.ndarray` of shape `(n, side, side)`): Gray levels, `side` a multiple of 4. Constant faces
            correlate with nothing.
        others (`np.ndarray` of shape `(m, side, side)`): The same.
        least (`float`): Correlations below it are not of interest.

    Returns:
        `np.ndarray` of shape `(n,)`: The correlation where it reaches `least`, else 0.
    """
    best = np.zeros(len(faces))
    blocks = [slice(start, start + _BLOCK) for start in range(0, max(len(faces), len(others)), _BLOCK)]
    screens = [_screen(others[block]) for block in blocks if block.start < len(others)]
    for rows in tqdm([block for block in blocks if block.start < len(faces)], desc="comparing faces", unit="block"):
        screen = _screen(faces[rows])
        for block, other in zip(blocks, screens, strict=False):
            may_reach = screen @ other.T >= least - 1e-4  # (_BLOCK, _BLOCK); the margin is for rounding
            mine, theirs = np.flatnonzero(may_reach.any(axis=1)), np.flatnonzero(may_reach.any(axis=0))
            if len(mine):
                correlations = _unit(faces[rows][mine]) @ _unit(others[block][theirs]).T
                best[rows.start + mine] = np.maximum(best[rows.start + mine], correlations.max(axis=1))
    return np.where(best >= least, np.minimum(best, 1), 0)


def _unit(faces: np.ndarray) -> np.ndarray:
    flat = faces.reshape(len(faces), -1).astype(np.float64)
    flat -= flat.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.divide(flat, lengths, out=np.zeros_like(flat), where=lengths > 0)


def _screen(faces: np.ndarray) -> np.ndarray:
    side = faces.shape[1]
    cells = _unit(faces).reshape(len(faces), side // _CELL, _CELL, side // _CELL, _CELL)
    cells = cells.sum(axis=(2, 4)).reshape(len(faces), -1) / _CELL  # length kept by a face that is even in each cell
    rest = np.sqrt(np.maximum(1 - np.square(cells).sum(axis=1, keepdims=True), 0))
    return np.concatenate([cells, rest], axis=1).astype(np.float32)

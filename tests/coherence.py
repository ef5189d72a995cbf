"""How steady and how strong a dreamed clip is, measured on decoded frames."""

from __future__ import annotations

import cv2
import numpy as np

Frames = np.ndarray
"""`[N, H, W, 3]` RGB uint8."""


def flicker(source: Frames, output: Frames, lag: int) -> float:
    """RMS(r(t) - warp(r(t - lag))) / RMS(r), r the output less the source, less its own blur.

    Taken over pixels whose flow in the source is forward-backward consistent; pairs of which less
    than a third is (cuts) are left out. 0 is perfectly steady, about 1.4 is noise.
    """
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in source]
    residuals = [
        high_pass((o.astype(np.float32) - s) / 255) for s, o in zip(source, output, strict=True)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    change = energy = 0.0
    for now, before in zip(range(lag, len(source)), range(len(source)), strict=False):
        there = search.calc(greys[now], greys[before], None)
        back = pull(search.calc(greys[before], greys[now], None), there)
        consistent = agrees(there, back)
        if consistent.mean() < 1 / 3:
            continue
        moved = pull(residuals[before], there)
        change += float(((residuals[now] - moved)[consistent] ** 2).sum())
        energy += float((residuals[now][consistent] ** 2).sum())
    return (change / energy) ** 0.5


def high_pass(residual: np.ndarray) -> np.ndarray:
    return residual - cv2.GaussianBlur(residual, (0, 0), 8)


def pull(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    y, x = np.indices(flow.shape[:2], np.float32)
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR)


def agrees(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where both flows agree (Sundaram et al. 2010) and the vector ends inside the picture."""
    height, width = there.shape[:2]
    y, x = np.indices((height, width), np.float32)
    ends = np.stack((x, y), -1) + there
    inside = (ends >= 0).all(-1) & (ends <= (width - 1, height - 1)).all(-1)
    lengths = (there**2).sum(-1) + (back**2).sum(-1)
    return inside & (((there + back) ** 2).sum(-1) < 0.01 * lengths + 0.5)

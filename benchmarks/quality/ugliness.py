"""Two figures that name what is ugly in an enlarged drawing, 0 for the original itself: dirt in its flats, ragged lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.common.metrics import luma

FLAT_SIDE, FLAT_RANGE = 13, 6.0  # pixels of the box, so that flats begin 6 from a line; levels of 255
DIRT_SIGMA, AROUND = 1.0, 6.0  # pixels: finer than that is hardly seen; what is one place
SEEN = 0.25  # levels: what a step of one level, which rounding makes anywhere, has at most
FEWEST = 200  # pixels of flats, and points on edges, below which there is no figure

EDGE_SIGMA, EDGE_SLOPE = 1.2, 12.0  # pixels; levels of 255 a pixel
SHORTEST = 24  # points of an edge
STRAIGHT = 0.35  # radians that an edge may turn within TURN points on either side: corners have no smooth course
TURN = 4
REACH, STEP = 6.0, 0.5  # pixels along the normal
WINDOW = 2.0  # pixels, of the Gaussian in which an edge is looked for
LOST = 0.25  # of the original's step of luma, below which an edge is not there
COURSE = 10.0  # points, of the Gaussian that takes an edge's course from its wiggles


def dirt(original: np.ndarray, picture: np.ndarray) -> float | None:
    """What `picture` has in areas that are flat in `original`, both [H, W, 3] uint8 R'G'B': noise, blocks, mosquitoes.

    1000 times the mean over those areas of max(0, m(picture) - m(original)), where m is what max(0, |L(G(Y'))| - SEEN) is
    about each pixel: its mean over the flat pixels around in a Gaussian of AROUND pixels. Y' is luma, 0..255, G a Gaussian
    of DIRT_SIGMA pixels, L the Laplacian of 4 neighbours; so the unit is a thousandth of a level. Flat is where luma
    ranges over less than FLAT_RANGE levels within FLAT_SIDE pixels each way. 0 for the original; where the original itself
    is not smooth, a picture that is smoother gains nothing. None where less than FEWEST pixels are flat.
    """
    before = luma(original)
    flat = flats(before)
    if flat.sum() < FEWEST:
        return None
    share = cv2.GaussianBlur(flat.astype(np.float32), (0, 0), AROUND)
    more = cv2.GaussianBlur((_grain(luma(picture)) - _grain(before)) * flat, (0, 0), AROUND)
    return float(1000 * np.maximum(more[flat] / share[flat], 0).mean())


def flats(y: np.ndarray) -> np.ndarray:
    """[H, W] bool: where a luma, [H, W] float32, 0..255, is flat, as `dirt` has it."""
    box = np.ones((FLAT_SIDE, FLAT_SIDE), np.uint8)
    return np.asarray(cv2.dilate(y, box) - cv2.erode(y, box) < FLAT_RANGE)


def _grain(y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(cv2.Laplacian(cv2.GaussianBlur(y, (0, 0), DIRT_SIGMA), cv2.CV_32F)) - SEEN, 0)


def raggedness(original: np.ndarray, picture: np.ndarray) -> float | None:
    """How far the lines of `picture` wander about their course, in pixels; both [H, W, 3] uint8 R'G'B'.

    The root mean square over all points s of the strong edges of `original` of d(s) - (G * d)(s). d is where the
    picture's edge is along the normal of the original's, against where the original's is: the centroid of luma's slope
    that has the original's sign, in a Gaussian window of WINDOW pixels that follows it. G is a Gaussian of COURSE points
    along the edge. So a line that is shifted, thinner or softer all along costs nothing; a beaded, wavy or stepped one
    does. 0 for the original. Corners, and points where the picture has no such edge, do not count. None where there are
    less than FEWEST points.
    """
    before = luma(original)
    edges = trace(before)
    if edges is None:
        return None
    places, steps = _located(before, edges)
    others, found = _located(luma(picture), edges)
    weight = (edges.counts & (steps > 0) & (found > LOST * steps)).astype(np.float32)
    if weight.sum() < FEWEST:
        return None
    moved = (others - places) * weight
    course = _along(moved) / np.maximum(_along(weight), 1e-6)
    wander = np.square(others - places - course)
    return float(np.sqrt((wander * weight).sum() / weight.sum()))


@dataclass(frozen=True)
class Edges:
    """Points of all edges, one edge after the other with a gap between. points, normals: [N, 2] float32, x and y; a normal
    points to where it is brighter. counts: [N] bool, False in gaps and corners."""

    points: np.ndarray
    normals: np.ndarray
    counts: np.ndarray


def slopes(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How a luma, [H, W] float32, 0..255, rises along x, along y and at most, in levels a pixel, smoothed."""
    smooth = cv2.GaussianBlur(y, (0, 0), EDGE_SIGMA)
    dx, dy = (cv2.Scharr(smooth, cv2.CV_32F, *order) / 32 for order in ((1, 0), (0, 1)))
    return dx, dy, cv2.magnitude(dx, dy)


def trace(y: np.ndarray) -> Edges | None:
    """The strong edges of a luma, [H, W] float32, 0..255, where its Laplacian changes sign; None where there is none."""
    dx, dy, slope = slopes(y)
    strong = slope >= EDGE_SLOPE
    near = cv2.dilate(strong.astype(np.uint8), np.ones((5, 5), np.uint8))
    dark = np.where(cv2.Laplacian(cv2.GaussianBlur(y, (0, 0), EDGE_SIGMA), cv2.CV_32F) > 0, near, 0)
    margin = int(REACH) + 1
    inside = np.zeros_like(strong)
    inside[margin:-margin, margin:-margin] = True
    runs = [run for outline in cv2.findContours(dark, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0] if len(outline) >= SHORTEST
            for run in _runs(outline[:, 0], strong & inside)]  # fmt: skip
    if not runs:
        return None
    gap = np.zeros((int(3 * COURSE), 2), np.int32)
    points = np.concatenate([part for run in runs for part in (run, gap)])
    real = np.concatenate([part for run in runs for part in (np.ones(len(run), bool), np.zeros(len(gap), bool))])
    x, row = points[:, 0], points[:, 1]
    normals = np.stack([dx[row, x], dy[row, x]], 1) / np.maximum(slope[row, x], 1e-6)[:, None]
    ahead, behind = np.roll(normals, -TURN, 0), np.roll(normals, TURN, 0)
    straight = (ahead * behind).sum(1) > np.cos(2 * STRAIGHT)
    return Edges(points.astype(np.float32), normals.astype(np.float32), real & straight)


def _runs(outline: np.ndarray, strong: np.ndarray) -> Sequence[np.ndarray]:
    """The parts of a closed outline, [N, 2], that are strong and long enough."""
    kept = strong[outline[:, 1], outline[:, 0]]
    if kept.all():
        return [outline]
    outline, kept = (np.roll(values, -int(kept.argmin()), 0) for values in (outline, kept))  # begins where it is weak
    cuts = np.flatnonzero(np.diff(kept)) + 1
    return [run for run, strong in zip(np.split(outline, cuts), np.split(kept, cuts)) if strong[0] and len(run) >= SHORTEST]


def _located(y: np.ndarray, edges: Edges) -> tuple[np.ndarray, np.ndarray]:
    """Where each edge is along its normal, in pixels, and its step of luma within the window; [N] float32 both."""
    at = np.arange(-REACH, REACH + STEP / 2, STEP, dtype=np.float32)
    x, row = (edges.points[:, i, None] + edges.normals[:, i, None] * at for i in (0, 1))
    profiles = np.concatenate([
        cv2.remap(y, x[i : i + 30000], row[i : i + 30000], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for i in range(0, len(x), 30000)  # OpenCV's remap takes no longer ones
    ])  # fmt: skip
    rising = np.maximum(np.diff(profiles, axis=1), 0)
    middle = (at[1:] + at[:-1]) / 2
    place = np.zeros(len(x), np.float32)
    for _ in range(3):
        weights = rising * np.exp(-np.square((middle - place[:, None]) / WINDOW) / 2)
        step = weights.sum(1)
        place = (weights @ middle) / np.maximum(step, 1e-6)
    return place, step


def _along(values: np.ndarray) -> np.ndarray:
    side = 2 * int(3 * COURSE) + 1
    return np.asarray(cv2.GaussianBlur(values[None], (side, 1), COURSE, borderType=cv2.BORDER_CONSTANT)[0])

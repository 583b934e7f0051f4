"""The best one-to-one assignment, with numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(worth: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pairs (row, column) of the greatest total worth, (N, M); only pairs that are worth above 0.

    The Hungarian algorithm by shortest augmenting paths (Jonker and Volgenant, 1987), as in
    scipy.optimize.linear_sum_assignment.
    """
    rows, columns = worth.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(worth.T))
    cost = -np.where(worth > 0, worth, 0).astype(np.float64)  # NaN is worth nothing
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    row_of, column_of = np.full(columns, -1), np.full(rows, -1)
    for start in range(rows):
        row, column = start, -1
        shortest = np.full(columns, np.inf)
        came_from = np.full(columns, -1)
        done = np.zeros(columns, bool)
        visited: list[int] = []
        length = 0.0
        while column < 0:
            visited.append(row)
            through = length + cost[row] - row_price[row] - column_price
            closer = ~done & (through < shortest)
            shortest[closer], came_from[closer] = through[closer], row
            nearest = int(np.argmin(np.where(done, np.inf, shortest)))
            length, done[nearest] = float(shortest[nearest]), True
            if row_of[nearest] < 0:
                column = nearest
            else:
                row = int(row_of[nearest])
        row_price[start] += length
        for other in visited[1:]:
            row_price[other] += length - shortest[column_of[other]]
        column_price[done] -= length - shortest[done]
        while column >= 0:
            row = int(came_from[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
    return [(r, int(c)) for r, c in enumerate(column_of) if worth[r, c] > 0]

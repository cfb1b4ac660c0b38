"""Learned positions of tokens that lie in a square, as RSCaMa and Change-Agent's MCI have them."""

from __future__ import annotations

import torch
from torch import nn


class SquarePositions(nn.Module):
    """Learned embeddings of a square's columns and rows, one after the other in a token.

    The authors call the columns' table `h_embedding` and the rows' `w_embedding`.

    Args:
        grid: tokens along a side of the largest square.
        width: numbers in a token; each table has half of them.
    """

    def __init__(self, grid: int, width: int) -> None:
        super().__init__()
        self.column = nn.Embedding(grid, width // 2)
        self.row = nn.Embedding(grid, width // 2)

    def forward(self, height: int, width: int) -> torch.Tensor:
        """Positions (height * width, c), row by row."""
        columns = self.column.weight[:width].expand(height, -1, -1)
        rows = self.row.weight[:height, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).flatten(0, 1)

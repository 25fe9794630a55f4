"""A batch with its vectors side by side, compiled: row j of a block holds entry j of BESIDE vectors.

The products of a structure's parts with so many vectors are then products of matrices whose rows fill registers,
however small the parts are; and to group the entries of a vector otherwise is to take other rows.
"""

from rankscope.compiled import Array, leaf
from rankscope.matrices import Matrix, copy_sum, turn

Sizes = tuple[int, ...]
"""Of the two parts of a structure, all there are."""

Places = tuple[int, ...]
"""The addresses of what a pass is given and of what it is to fill."""

BESIDE = 32
"""Vectors of a block: two registers or four."""
ENOUGH = 2**17
"""Multiply-adds that are worth another thread."""


def blocks_of(batch: int) -> int:
    """How many blocks a batch is."""
    return -(-batch // BESIDE)


@leaf
def parts_of(batch: int, each: int, team: int) -> int:
    """Into how many parts the blocks are worth being divided, with so many multiply-adds for each vector."""
    return max(1, min(team, batch * each // ENOUGH, -(-batch // BESIDE)))


@leaf
def share(part: int, parts: int, batch: int) -> tuple[int, int]:
    """The first block of a part and the one after its last."""
    blocks = -(-batch // BESIDE)
    return part * blocks // parts, (part + 1) * blocks // parts


@leaf
def lay(block: Array, X: Array, begin: int) -> None:
    """BESIDE vectors of X (batch×n) from ``begin`` on, side by side; zeros beyond the last one."""
    (batch, n), x = X.shape, X.reshape(X.size)
    many = min(BESIDE, batch - begin)
    if many < BESIDE:
        block[:] = 0
    turn(Matrix(block, 0, BESIDE, 1), Matrix(x, begin * n, n, 1), many, n)


@leaf
def take(Y: Array, begin: int, block: Array) -> None:
    """The way back: Y from vector ``begin`` on."""
    (batch, n), y = Y.shape, Y.reshape(Y.size)
    turn(Matrix(y, begin * n, n, 1), Matrix(block, 0, BESIDE, 1), n, min(BESIDE, batch - begin))


@leaf
def begin_with(block: Array, bias: Array) -> None:
    """Every vector of the block ← the bias."""
    for j in range(bias.size):
        at, value = j * BESIDE, bias[j]
        for e in range(BESIDE):
            block[at + e] = value


@leaf
def add_vectors(total: Array, X: Array, begin: int) -> None:
    """total += Σ_e X_e over the vectors of the block from ``begin`` on."""
    (batch, n), x = X.shape, X.reshape(X.size)
    for e in range(begin, min(begin + BESIDE, batch)):
        copy_sum(Matrix(total, 0, 0, 1), Matrix(total, 0, 0, 1), Matrix(x, e * n, 0, 1), 1, n)

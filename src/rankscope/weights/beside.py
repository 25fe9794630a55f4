"""A batch with its vectors side by side, compiled: row j of a block holds entry j of BESIDE vectors.

The products of a structure's parts with so many vectors are then products of matrices whose rows fill registers,
however small the parts are; and to group the entries of a vector otherwise is to take other rows.
"""

from rankscope.compiled import Array, leaf
from rankscope.matrices import Matrix, copy_sum, turn
from rankscope.rows import ROWS, add_pairs, load_rows, rows_from, store_rows, store_totals
from rankscope.vectors import ONE, TWO, lanes, load_apart

Sizes = tuple[int, ...]
"""Of the two parts of a structure, all there are."""

Places = tuple[int, ...]
"""The addresses of what a pass is given and of what it is to fill."""

BESIDE = 32
"""Vectors of a block: two registers or four."""
SOME = 64
"""Entries of each that are given back at a time: they stay in the first cache level."""
ENOUGH = 2**17
"""Multiply-adds that are worth another thread."""


def blocks_of(batch: int) -> int:
    """How many blocks a batch is."""
    return -(-batch // BESIDE)


@leaf
def parts_of(batch: int, each: int, team: int) -> int:
    """Into how many parts the blocks are worth being divided, with so many multiply-adds for each vector."""
    return min(worth(batch * each, team), -(-batch // BESIDE))


@leaf
def worth(multiply_adds: int, team: int) -> int:
    """How many threads so much is worth."""
    return max(1, min(team, multiply_adds // ENOUGH))


@leaf
def share(part: int, parts: int, batch: int) -> tuple[int, int]:
    """The first block of a part and the one after its last."""
    blocks = -(-batch // BESIDE)
    return part * blocks // parts, (part + 1) * blocks // parts


@leaf
def rows_of(part: int, parts: int, rows: int) -> tuple[int, int]:
    """The first of the rows that are a part's, as many of them as are worked on at a time, and how many it has."""
    groups = (rows + ROWS - 1) // ROWS
    first, after = part * groups // parts, (part + 1) * groups // parts
    return first * ROWS, min(after * ROWS, rows) - first * ROWS


@leaf
def lay(block: Array, X: Array, begin: int, each: int, apart: int) -> None:
    """BESIDE vectors of X (batch×n) from ``begin`` on, side by side; zeros beyond the last one.

    Groups of ``each`` entries begin ``apart`` in the block.
    """
    (batch, n), x = X.shape, X.reshape(X.size)
    many = min(BESIDE, batch - begin)
    if many < BESIDE:
        block[:] = 0
    for g in range(n // each):
        turn(Matrix(block, g * apart, BESIDE, 1), Matrix(x, begin * n + g * each, n, 1), many, each)


@leaf
def take(Y: Array, begin: int, block: Array, each: int, apart: int) -> None:
    """The way back: Y from vector ``begin`` on."""
    (batch, n), y = Y.shape, Y.reshape(Y.size)
    for g in range(n // each):
        to = Matrix(y, begin * n + g * each, n, 1)
        turn(to, Matrix(block, g * apart, BESIDE, 1), each, min(BESIDE, batch - begin))


@leaf
def give(Y: Array, begin: int, block: Array, bias: Array, few: Array) -> None:
    """Y from vector ``begin`` on ← those of the block, the bias added to each; ``few`` has room for SOME entries."""
    (batch, n), y, rows = Y.shape, Y.reshape(Y.size), Matrix(few, 0, SOME, 1)
    for j in range(0, n, SOME):
        some = min(SOME, n - j)
        turn(rows, Matrix(block, j * BESIDE, BESIDE, 1), some, BESIDE)
        copy_sum(Matrix(y, begin * n + j, n, 1), rows, Matrix(bias, j, 0, 1), min(BESIDE, batch - begin), some)


@leaf
def add_vectors(total: Array, X: Array, begin: int) -> None:
    """total += Σ_e X_e over the vectors of the block from ``begin`` on."""
    (batch, n), x = X.shape, X.reshape(X.size)
    copy_sum(Matrix(total, 0, 0, 1), Matrix(total, 0, 0, 1), Matrix(x, begin * n, n, 1), min(BESIDE, batch - begin), n)


@leaf
def add_matches(totals: Array, L: Matrix, R: Matrix, m: int, n: int, p: int) -> None:
    """T_ij += Σ_t l_it r_jt over the vectors of a block, for rows l_it and r_jt of a number for each of them.

    i < m, j < n and t < p; row l_it begins at entry (i, t) of L. Each T_ij stays a vector until `add_lanes`: totals
    hold as many numbers as a vector for each.
    """
    width = lanes(totals)
    for i in range(0, m, ROWS):
        to, left = rows_from(i * n * width, n * width, m - i), rows_from(L.start + i * L.row, L.row, m - i)
        for j in range(0, n - 1, 2):
            _match(totals, to, j * width, L, left, R, R.start + j * R.row, p, TWO)
        if n % 2:
            _match(totals, to, (n - 1) * width, L, left, R, R.start + (n - 1) * R.row, p, ONE)


@leaf
def _match(
    totals: Array,
    to: tuple[int, ...],
    place: int,
    L: Matrix,
    left: tuple[int, ...],
    R: Matrix,
    right: int,
    p: int,
    many: tuple[int, ...],
) -> None:
    sums = load_rows(totals, to, place, many)
    for t in range(p):
        for e in range(0, BESIDE, lanes(totals)):
            rows = load_rows(L.entries, left, t * L.column + e, ONE)
            sums = add_pairs(sums, rows, load_apart(R.entries, right + t * R.column + e, R.row, many))
    store_rows(totals, to, place, sums)


@leaf
def add_lanes(totals: Array, whole: Array) -> None:
    """whole ← the sum of each vector."""
    width, rest = lanes(totals), whole.size // ROWS * ROWS
    for i in range(0, rest, ROWS):
        store_totals(whole, i, 0, load_rows(totals, rows_from(i * width, width, ROWS), 0, ONE))
    for i in range(rest, whole.size):
        total = totals[i * width]
        for e in range(1, width):
            total += totals[i * width + e]
        whole[i] = total

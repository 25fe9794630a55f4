"""One side of a chain, compiled: formed as a product, and a gradient of the product pulled back to the factors.

Seen from the narrow place it is a long matrix B₀ and small ones that this is multiplied by, B_t = W_t B_{t-1}: to
the right F_L and F_{L-1}, …, F_{j+1}; to the left, transposed, F₁ᵀ and F₂ᵀ, …, F_jᵀ. From E, the gradient for the last
B_t, follow

    ∂/∂W_t = E B_{t-1}ᵀ,   E ← W_tᵀ E,   ∂/∂B₀ = E in the end.

Columns of B₀ do not interact but in sums, so a thread takes a share of them, from ``begin`` to ``end``.
"""

from rankscope.compiled import Array, Integers, leaf


@leaf
def form(
    theta: Array,
    sizes: Integers,
    j: int,
    left: bool,
    begin: int,
    end: int,
    wide: Array,
    small: Array,
    whole: Array,
    gram: Array,
) -> None:
    """These columns of a whole ← B = … W₂ W₁ B₀, and a Gram ← B Bᵀ, both by way of float64.

    Args:
        theta: the entries of the chain.
        sizes: m, r₁, …, r_{L-1}, n.
        j: its narrow place.
        left: which side.
        begin: the first column.
        end: the one after the last.
        wide: room for two B, in float64.
        small: room for a W.
        whole: gets B.
        gram: gets what these columns add to B Bᵀ, in float64.
    """
    many, r, half = end - begin, _rows(sizes, left, 0), len(wide) // 2
    B = wide[: r * many].reshape(r, many)
    _take_long(theta, sizes, left, begin, B)
    for t in range(1, _levels(sizes, j, left)):
        p = _rows(sizes, left, t)
        W, product = small[: p * r].reshape(p, r), wide[t % 2 * half : t % 2 * half + p * many].reshape(p, many)
        _take_small(theta, sizes, left, t, False, W)
        _multiply(W, B, 0, product)
        B, r = product, p
    for i in range(r):
        row, to = B[i], whole[i, begin:end]
        for c in range(many):
            to[c] = row[c]
        for k in range(0, i + 1, 4):
            _four_dots(row, B, k, gram[i])
        for k in range(i):
            gram[k, i] = gram[i, k]


@leaf
def pull_back(
    theta: Array,
    sizes: Integers,
    j: int,
    left: bool,
    begin: int,
    end: int,
    gram: Array,
    side: Array,
    products: Array,
    narrow: Array,
    small: Array,
    between: Array,
    gradient: Array,
) -> None:
    """The gradient of the side's factors, from that of these columns of the side, E = (other side's Gram) B − products.

    Args:
        theta, sizes, j, left, begin, end: as in ``form``.
        gram: that of the other side (r_j×r_j), in float64.
        side: the whole B.
        products: Tᵀ or S.
        narrow: room for every B_t, and two E.
        small: room for a W and its gradient.
        between: gets what these columns add to the gradient of F₂, …, F_{L-1}.
        gradient: gets, where these columns belong, that of F₁ or F_L.
    """
    many, levels, r, at = end - begin, _levels(sizes, j, left), _rows(sizes, left, 0), 0
    if levels > 1:
        _take_long(theta, sizes, left, begin, narrow[: r * many].reshape(r, many))
    for t in range(1, levels):
        p, after = _rows(sizes, left, t), at + r * many
        if t < levels - 1:
            W = small[: p * r].reshape(p, r)
            _take_small(theta, sizes, left, t, False, W)
            B = narrow[at:after].reshape(r, many)
            _multiply(W, B, 0, narrow[after : after + p * many].reshape(p, many))
        at, r = after, p
    half = (len(narrow) - at) // 2
    E = narrow[at : at + r * many].reshape(r, many)
    _multiply(gram, side, begin, E)
    for i in range(r):
        row, known = E[i], products[i, begin:end]
        for c in range(many):
            row[c] -= known[c]
    first = at
    for t in range(levels - 1, 0, -1):
        q = _rows(sizes, left, t - 1)
        at -= q * many
        B = narrow[at : at + q * many].reshape(q, many)
        slope, W = small[: r * q].reshape(r, q), small[len(small) // 2 : len(small) // 2 + r * q].reshape(q, r)
        for i in range(r):
            for k in range(0, q, 4):
                _four_dots(E[i], B, k, slope[i])
        _put_small(slope, sizes, left, t, between)
        _take_small(theta, sizes, left, t, True, W)
        place = first + (levels - t) % 2 * half
        back = narrow[place : place + q * many].reshape(q, many)
        _multiply(W, E, 0, back)
        E, r = back, q
    _put_long(E, sizes, left, begin, gradient)


@leaf
def _levels(sizes: Integers, j: int, left: bool) -> int:
    """How many factors a side has."""
    return j if left else len(sizes) - 1 - j


@leaf
def _rows(sizes: Integers, left: bool, t: int) -> int:
    """Those of B_t."""
    return sizes[t + 1] if left else sizes[len(sizes) - 2 - t]


@leaf
def _begin(sizes: Integers, place: int) -> int:
    """Where a factor begins in θ, the first having the place 0."""
    begin = 0
    for k in range(place):
        begin += sizes[k] * sizes[k + 1]
    return begin


@leaf
def _place(sizes: Integers, left: bool, t: int) -> int:
    """Of the factor that is W_t, or B₀."""
    return t if left else len(sizes) - 2 - t


@leaf
def _take_long(theta: Array, sizes: Integers, left: bool, begin: int, B: Array) -> None:
    """These columns of B₀."""
    r, many = B.shape
    at = begin * r if left else _begin(sizes, len(sizes) - 2) + begin
    for i in range(r):
        row = B[i]
        if left:
            for c in range(many):
                row[c] = theta[at + c * r + i]
        else:
            entries = theta[at + i * sizes[-1] : at + i * sizes[-1] + many]
            for c in range(many):
                row[c] = entries[c]


@leaf
def _put_long(E: Array, sizes: Integers, left: bool, begin: int, gradient: Array) -> None:
    """These columns of the gradient of B₀, to where its factor lies."""
    r, many = E.shape
    at = begin * r if left else _begin(sizes, len(sizes) - 2) + begin
    for i in range(r):
        row = E[i]
        if left:
            for c in range(many):
                gradient[at + c * r + i] = row[c]
        else:
            entries = gradient[at + i * sizes[-1] : at + i * sizes[-1] + many]
            for c in range(many):
                entries[c] = row[c]


@leaf
def _take_small(theta: Array, sizes: Integers, left: bool, t: int, turned: bool, W: Array) -> None:
    """W_t, or its transpose: to the left a factor is W_tᵀ itself."""
    (p, q), at = W.shape, _begin(sizes, _place(sizes, left, t))
    for i in range(p):
        for k in range(q):
            W[i, k] = theta[at + k * p + i] if left != turned else theta[at + i * q + k]


@leaf
def _put_small(slope: Array, sizes: Integers, left: bool, t: int, between: Array) -> None:
    """The gradient of W_t, to where its factor lies among F₂, …, F_{L-1}."""
    (p, q), at = slope.shape, _begin(sizes, _place(sizes, left, t)) - sizes[0] * sizes[1]
    for i in range(p):
        for k in range(q):
            between[at + k * p + i if left else at + i * q + k] = slope[i, k]


@leaf
def _multiply(W: Array, B: Array, begin: int, product: Array) -> None:
    """W B for columns of B from ``begin`` on: four rows of them at a time, for a quarter of the loads and stores."""
    (p, q), many, kind = W.shape, product.shape[1], product.dtype.type
    end, zero = begin + many, kind(0)
    for i in range(p):
        out = product[i]
        for k in range(0, q, 4):
            k1, k2, k3 = min(k + 1, q - 1), min(k + 2, q - 1), min(k + 3, q - 1)
            b0, b1, b2, b3 = B[k, begin:end], B[k1, begin:end], B[k2, begin:end], B[k3, begin:end]
            w0, w1 = kind(W[i, k]), kind(W[i, k1]) if k + 1 < q else zero
            w2, w3 = kind(W[i, k2]) if k + 2 < q else zero, kind(W[i, k3]) if k + 3 < q else zero
            for c in range(many):
                before = zero if k == 0 else out[c]
                out[c] = before + (w0 * b0[c] + w1 * b1[c] + w2 * b2[c] + w3 * b3[c])


@leaf
def _four_dots(e: Array, B: Array, k: int, out: Array) -> None:
    """out_k … out_{k+3} ← e times these rows of B, as far as there are so many."""
    last = len(B) - 1
    k1, k2, k3 = min(k + 1, last), min(k + 2, last), min(k + 3, last)
    b0, b1, b2, b3 = B[k], B[k1], B[k2], B[k3]
    s0 = s1 = s2 = s3 = e.dtype.type(0)
    for c in range(len(e)):
        s0 += e[c] * b0[c]
        s1 += e[c] * b1[c]
        s2 += e[c] * b2[c]
        s3 += e[c] * b3[c]
    out[k], out[k1], out[k2], out[k3] = s0, s1, s2, s3

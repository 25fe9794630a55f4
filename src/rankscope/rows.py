"""A few rows of a matrix at a time, by vectors: for compiled loops that multiply them.

add_outer:     c_i += a_i v          add_pairs:      c_ik += u_i ∘ v_k
add_inner:     s += Σ_i a_i v_i      add_weighted:   s_k += Σ_i v_i ∘ w_ik
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rankscope.vectors import (
    BYTES,
    WIDE,
    Vector,
    align_of,
    fused,
    load_first,
    loaded,
    place_of,
    splat,
    store_first,
    stored,
    times,
)

ROWS = 8 if WIDE else 4
"""How many rows are worked on at a time: so many that their sums, of up to three vectors each, stay in registers."""


@intrinsic
def rows_from(typing: Any, start: Any, row: Any, count: Any) -> Any:
    """Where each of ROWS rows begins, ``row`` from the one before; those beyond ``count`` are the last again."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start, row, count = arguments
        last = builder.sub(count, ir.Constant(count.type, 1))
        places = []
        for i in range(ROWS):
            number = ir.Constant(count.type, i)
            beyond = builder.icmp_signed(">", number, last)
            places.append(builder.add(start, builder.mul(builder.select(beyond, last, number), row)))
        return context.make_tuple(builder, signature.return_type, places)

    integer = types.intp
    return types.UniTuple(integer, ROWS)(integer, integer, integer), generate


@intrinsic
def load_rows(typing: Any, array: Any, begins: Any, index: Any, many: Any) -> Any:
    """As many vectors as ``many`` stands for of each row that begins there in the flat array, from an index on."""
    vectors = types.UniTuple(Vector(array.dtype), ROWS * len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_of_rows(context, builder, signature, arguments, vectors)
        return loaded(context, builder, array, vectors, places)

    return vectors(array, begins, index, many), generate


@intrinsic
def zero_rows(typing: Any, array: Any, many: Any) -> Any:
    """As many vectors of zeros as ``load_rows`` gives."""
    vectors = types.UniTuple(Vector(array.dtype), ROWS * len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = ir.Constant(context.get_value_type(vectors.dtype), None)
        return context.make_tuple(builder, vectors, [zero] * len(vectors))

    return vectors(array, many), generate


@intrinsic
def store_rows(typing: Any, array: Any, begins: Any, index: Any, vectors: Any) -> Any:
    """Those of every row back to where they were loaded from."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_of_rows(context, builder, signature, arguments, vectors)
        return stored(context, builder, array, arguments[3], places)

    return types.none(array, begins, index, vectors), generate


@intrinsic
def load_some_of_rows(typing: Any, array: Any, begins: Any, index: Any, many: Any, count: Any) -> Any:
    """The same, but of the last vector of a row so many entries, and zeros; no others are touched."""
    vectors = types.UniTuple(Vector(array.dtype), ROWS * len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, align = _places_of_rows(context, builder, signature, arguments, vectors), align_of(array)
        kind, found = context.get_value_type(vectors.dtype), []
        for k, place in enumerate(places):
            ends = (k + 1) % len(many) == 0
            found.append(
                load_first(builder, place, arguments[4], kind, align) if ends else builder.load(place, align=align)
            )
        return context.make_tuple(builder, vectors, found)

    return vectors(array, begins, index, many, types.intp), generate


@intrinsic
def store_some_of_rows(typing: Any, array: Any, begins: Any, index: Any, vectors: Any, count: Any) -> Any:
    """The way back."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, align = _places_of_rows(context, builder, signature, arguments, vectors), align_of(array)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, arguments[3])):
            if (k + 1) % (len(vectors) // ROWS):
                builder.store(vector, places[k], align=align)
            else:
                store_first(builder, vector, places[k], arguments[4], align)
        return context.get_dummy_value()

    return types.none(array, begins, index, vectors, types.intp), generate


@intrinsic
def load_rows_apart(typing: Any, array: Any, begins: Any, index: Any, apart: Any, many: Any) -> Any:
    """The same, where vectors of a row lie so far apart."""
    vectors = types.UniTuple(Vector(array.dtype), ROWS * len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_of_rows(context, builder, signature, arguments, vectors, arguments[3])
        return loaded(context, builder, array, vectors, places)

    return vectors(array, begins, index, types.intp, many), generate


@intrinsic
def store_rows_apart(typing: Any, array: Any, begins: Any, index: Any, apart: Any, vectors: Any) -> Any:
    """The way back."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_of_rows(context, builder, signature, arguments, vectors, arguments[3])
        return stored(context, builder, array, arguments[4], places)

    return types.none(array, begins, index, types.intp, vectors), generate


@intrinsic
def add_outer(typing: Any, sums: Any, array: Any, begins: Any, index: Any, vectors: Any) -> Any:
    """sums_i + a_i · vectors, for the entry a_i at an index of every row that begins there in the flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, vectors = (cgutils.unpack_tuple(builder, arguments[k]) for k in (0, 4))
        weights = _everywhere(context, builder, signature, arguments, vectors[0].type)
        pairs = [(weight, vector) for weight in weights for vector in vectors]
        after = [fused(builder, total, *pair) for total, pair in zip(sums, pairs, strict=True)]
        return context.make_tuple(builder, signature.return_type, after)

    return sums(sums, array, begins, index, vectors), generate


@intrinsic
def add_inner(typing: Any, sums: Any, array: Any, begins: Any, index: Any, rows: Any) -> Any:
    """sums + Σ_i a_i · rows_i, for the entry a_i at an index of every row that begins there in the flat array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        after, rows = (cgutils.unpack_tuple(builder, arguments[k]) for k in (0, 4))
        for i, weight in enumerate(_everywhere(context, builder, signature, arguments, rows[0].type)):
            vectors = rows[i * len(after) : (i + 1) * len(after)]
            after = [fused(builder, total, weight, vector) for total, vector in zip(after, vectors, strict=True)]
        return context.make_tuple(builder, signature.return_type, after)

    return sums(sums, array, begins, index, rows), generate


@intrinsic
def everywhere(typing: Any, array: Any, index: Any, apart: Any, many: Any) -> Any:
    """For each of ROWS entries from an index on a vector of nothing but it, and for those ``apart`` of them likewise.

    As many for each as ``many`` stands for, side by side.
    """
    vectors = types.UniTuple(Vector(array.dtype), ROWS * len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, index, apart, _ = arguments
        found = []
        for i in range(ROWS):
            for m in range(len(many)):
                at = builder.add(index, builder.add(ir.Constant(index.type, i), times(builder, apart, m)))
                entry = builder.load(place_of(context, builder, array, flat, at))
                found.append(splat(builder, entry, context.get_value_type(vectors.dtype)))
        return context.make_tuple(builder, vectors, found)

    return vectors(array, types.intp, types.intp, many), generate


@intrinsic
def add_pairs(typing: Any, sums: Any, left: Any, right: Any) -> Any:
    """sums_ik + left_i · right_k, entry by entry."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, left, right = (cgutils.unpack_tuple(builder, vectors) for vectors in arguments)
        pairs = [(one, other) for one in left for other in right]
        after = [fused(builder, total, *pair) for total, pair in zip(sums, pairs, strict=True)]
        return context.make_tuple(builder, signature.return_type, after)

    return sums(sums, left, right), generate


@intrinsic
def add_weighted(typing: Any, sums: Any, rows: Any, weights: Any) -> Any:
    """sums_k + Σ_i rows_i · weights_ik, entry by entry."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        after, rows, weights = (cgutils.unpack_tuple(builder, vectors) for vectors in arguments)
        for i, row in enumerate(rows):
            these = weights[i * len(after) : (i + 1) * len(after)]
            after = [fused(builder, total, row, weight) for total, weight in zip(after, these, strict=True)]
        return context.make_tuple(builder, signature.return_type, after)

    return sums(sums, rows, weights), generate


@intrinsic
def store_totals(typing: Any, array: Any, index: Any, apart: Any, sums: Any) -> Any:
    """The sum of the entries of each vector of ROWS rows into the flat array, that of row i and its k-th at an index
    + i + k ``apart``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        flat, index, apart, vectors = arguments
        kind = context.get_value_type(sums.dtype)
        entry, many = kind.element, len(sums) // ROWS
        name = f"llvm.vector.reduce.fadd.v{kind.count}f{array.dtype.bitwidth}"
        reduce = cgutils.get_or_insert_function(builder.module, ir.FunctionType(entry, [entry, kind]), name)
        for k, vector in enumerate(cgutils.unpack_tuple(builder, vectors)):
            at = builder.add(index, ir.Constant(index.type, k // many))
            place = place_of(context, builder, array, flat, builder.add(at, times(builder, apart, k % many)))
            builder.store(builder.call(reduce, [ir.Constant(entry, 0.0), vector], fastmath=("reassoc",)), place)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, sums), generate


@intrinsic
def note_columns(typing: Any, numbers: Any, place: Any, array: Any, begins: Any, index: Any) -> Any:
    """Of as many columns as a vector has entries, from an index on, the numbers of those in which not all of the rows
    that begin there in the flat array are 0, into ``numbers`` from a place on, with room for all; how many they are.

    For WIDE registers only.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers, place, array, begins, index = arguments
        dtype = signature.args[2].dtype
        side, bits, number = 8 * BYTES // dtype.bitwidth, ir.IntType(dtype.bitwidth), ir.IntType(32)
        whole, found = ir.VectorType(bits, side), ir.Constant(ir.VectorType(bits, side), None)
        for begin in cgutils.unpack_tuple(builder, begins):
            where = place_of(context, builder, signature.args[2], array, builder.add(begin, index))
            entries = builder.load(builder.bitcast(where, ir.PointerType(whole)), align=align_of(signature.args[2]))
            found = builder.or_(found, entries)
        any_of = builder.icmp_unsigned("!=", found, ir.Constant(whole, None))
        kind, mask = ir.VectorType(number, side), ir.VectorType(ir.IntType(1), side)
        first = splat(builder, builder.trunc(index, number), kind)
        columns = builder.add(first, ir.Constant(kind, [ir.Constant(number, k) for k in range(side)]))
        name = f"llvm.x86.avx512.mask.compress.v{side}i32"
        compress = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind, kind, mask]), name)
        packed = builder.call(compress, [columns, ir.Constant(kind, None), any_of])
        to = builder.bitcast(place_of(context, builder, signature.args[0], numbers, place), ir.PointerType(kind))
        builder.store(packed, to, align=4)
        counted = builder.ctpop(builder.bitcast(any_of, ir.IntType(side)))
        return builder.zext(counted, context.get_value_type(types.intp))

    return types.intp(numbers, types.intp, array, begins, types.intp), generate


def _places_of_rows(
    context: Any, builder: Any, signature: Any, arguments: Any, vectors: Any, apart: Any = None
) -> list[Any]:
    """Of vectors side by side, or so far apart."""
    array, begins, index = arguments[:3]
    kind = ir.PointerType(context.get_value_type(vectors.dtype))
    if apart is None:
        apart = ir.Constant(index.type, vectors.dtype.lanes)
    places = []
    for begin in cgutils.unpack_tuple(builder, begins):
        for k in range(len(vectors) // ROWS):
            at = builder.add(builder.add(begin, index), times(builder, apart, k))
            places.append(builder.bitcast(place_of(context, builder, signature.args[0], array, at), kind))
    return places


def _everywhere(context: Any, builder: Any, signature: Any, arguments: Any, kind: Any) -> list[Any]:
    """For every row the vector whose entries are all that at the index."""
    _, array, begins, index, _ = arguments
    vectors = []
    for begin in cgutils.unpack_tuple(builder, begins):
        entry = builder.load(place_of(context, builder, signature.args[1], array, builder.add(begin, index)))
        vectors.append(splat(builder, entry, kind))
    return vectors

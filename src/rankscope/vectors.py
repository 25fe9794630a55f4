"""Entries side by side in one register, for compiled loops: what the compiler does not find by itself.

It makes vectors of the innermost loop only. A product of matrices that keeps its sums in registers has them outside of
that loop, and needs vectors that a program can name.
"""

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDE = bool(llvm.get_host_cpu_features().get("avx512f"))
"""Whether this processor has 32 registers of 512 bits; others have 16 of 256, or the compiler makes do with theirs."""
BYTES = 64 if WIDE else 32
"""Of a vector."""
LINE = 64
"""Bytes of a cache line."""
FAR = 2048
"""Bytes. Of lines that lie so far apart a cache holds few: they share places."""
ONE, TWO, THREE, FOUR, EIGHT = ((0,) * many for many in (1, 2, 3, 4, 8))
"""Standing for so many vectors: a compiled loop has one form for each."""
CONTRACT = ("contract",)


class Vector(types.Type):
    """As many entries of a floating type as a register holds."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.lanes = dtype, 8 * BYTES // dtype.bitwidth
        super().__init__(name=f"Vector({dtype})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(manager.lookup(kind.dtype).get_value_type(), kind.lanes))


@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    """How many entries of an array are a vector, known when it is compiled."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, Vector(array.dtype).lanes)

    return types.intp(array), generate


@intrinsic
def load(typing: Any, array: Any, index: Any, many: Any) -> Any:
    """As many vectors as ``many`` stands for from the flat array at an index, which is not checked."""
    vectors = types.UniTuple(Vector(array.dtype), len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, vectors)
        return loaded(context, builder, array, vectors, places)

    return vectors(array, index, many), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vectors: Any) -> Any:
    """Vectors into the flat array at an index, which is not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, vectors)
        return stored(context, builder, array, arguments[2], places)

    return types.none(array, index, vectors), generate


@intrinsic
def load_apart(typing: Any, array: Any, index: Any, apart: Any, many: Any) -> Any:
    """As many vectors as ``many`` stands for from the flat array, from an index on, so far apart."""
    vectors = types.UniTuple(Vector(array.dtype), len(many))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_apart(context, builder, signature, arguments, vectors)
        return loaded(context, builder, array, vectors, places)

    return vectors(array, types.intp, types.intp, many), generate


@intrinsic
def store_apart(typing: Any, array: Any, index: Any, apart: Any, vectors: Any) -> Any:
    """Vectors into the flat array, from an index on, so far apart."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places_apart(context, builder, signature, arguments, vectors)
        return stored(context, builder, array, arguments[3], places)

    return types.none(array, types.intp, types.intp, vectors), generate


@intrinsic
def load_some(typing: Any, array: Any, index: Any, count: Any) -> Any:
    """One vector of so many entries of the flat array from an index on, and zeros; no others are touched."""
    vectors = types.UniTuple(Vector(array.dtype), 1)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_value_type(vectors.dtype)
        (place,) = _places(context, builder, signature, arguments, vectors)
        vector = load_first(builder, place, arguments[2], kind, align_of(array))
        return context.make_tuple(builder, vectors, [vector])

    return vectors(array, types.intp, types.intp), generate


@intrinsic
def store_some(typing: Any, array: Any, index: Any, count: Any, vector: Any) -> Any:
    """So many entries of one vector into the flat array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (place,) = _places(context, builder, signature, arguments, vector)
        (entries,) = cgutils.unpack_tuple(builder, arguments[3])
        store_first(builder, entries, place, arguments[2], align_of(signature.args[0]))
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, vector), generate


@intrinsic
def fetch(typing: Any, array: Any, index: Any) -> Any:
    """Have what lies at an index of the flat array, or beyond it, brought into the second cache level meanwhile."""
    return _fetch(array, index, 2)


@intrinsic
def fetch_near(typing: Any, array: Any, index: Any) -> Any:
    """The same into the first."""
    return _fetch(array, index, 3)


@intrinsic
def plus(typing: Any, left: Any, right: Any) -> Any:
    """left + right, vector by vector."""
    return _by_pairs(left, right, "fadd")


@intrinsic
def minus(typing: Any, left: Any, right: Any) -> Any:
    """left − right, vector by vector."""
    return _by_pairs(left, right, "fsub")


@intrinsic
def positive(typing: Any, vectors: Any) -> Any:
    """0 for every entry below it, the others as they are, NaN too."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        before = cgutils.unpack_tuple(builder, arguments[0])
        zero = ir.Constant(before[0].type, None)
        after = [builder.select(builder.fcmp_ordered("<", vector, zero), zero, vector) for vector in before]
        return context.make_tuple(builder, vectors, after)

    return vectors(vectors), generate


@intrinsic
def halves(typing: Any, vectors: Any) -> Any:
    """The first half of the vectors, and the second."""
    half = types.UniTuple(vectors.dtype, len(vectors) // 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        all_of = cgutils.unpack_tuple(builder, arguments[0])
        parts = [context.make_tuple(builder, half, part) for part in (all_of[: len(half)], all_of[len(half) :])]
        return context.make_tuple(builder, types.UniTuple(half, 2), parts)

    return types.UniTuple(half, 2)(vectors), generate


@intrinsic
def turn_square(typing: Any, array: Any, index: Any, row: Any, other: Any, there: Any, other_row: Any) -> Any:
    """As many vectors as a vector has entries, written turned: entry j of vector i is entry i of vector j.

    The first is to lie in the flat array at an index, the next one a row on; they are read from the other likewise.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _turn(context, builder, signature, arguments)

    integer = types.intp
    return types.none(array, integer, integer, array, integer, integer), generate


@intrinsic
def turn_some(
    typing: Any, array: Any, index: Any, row: Any, other: Any, there: Any, other_row: Any, rows: Any, columns: Any
) -> Any:
    """The same of the first entries, ``columns``, of the first vectors, ``rows``; nothing else is touched."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *arguments, rows, columns = arguments
        return _turn(context, builder, signature, arguments, rows, columns)

    integer = types.intp
    return types.none(array, integer, integer, array, integer, integer, integer, integer), generate


def _turn(context: Any, builder: Any, signature: Any, arguments: Any, rows: Any = None, columns: Any = None) -> Any:
    array, index, row, other, there, other_row = arguments
    dtype, (to, frm) = signature.args[0], (signature.args[0], signature.args[3])
    kind = context.get_value_type(Vector(dtype.dtype))
    side, half, number = kind.count, kind.count // 2, ir.IntType(32)

    def place(k: int, where: Any, at: Any, row: Any, begin: Any) -> Any:
        index = builder.add(begin, builder.mul(row, ir.Constant(row.type, k)))
        return builder.bitcast(place_of(context, builder, where, at, index), ir.PointerType(kind))

    def between(begin: int) -> Any:
        """The entries of two vectors by turns, half a vector of each."""
        places = [entry for i in range(begin, begin + half) for entry in (i, side + i)]
        return ir.Constant(ir.VectorType(number, side), [ir.Constant(number, entry) for entry in places])

    def first_of(k: int, count: Any, width: Any) -> Any:
        """Which entries of vector k are meant, with so many vectors so wide."""
        inside = builder.icmp_signed("<", ir.Constant(count.type, k), count)
        return _first(builder, builder.select(inside, width, ir.Constant(width.type, 0)), kind)

    align = align_of(dtype)
    places = [place(k, frm, other, other_row, there) for k in range(side)]
    if rows is None:
        vectors = [builder.load(where, align=align) for where in places]
    else:
        vectors = [_load_masked(builder, where, first_of(k, rows, columns), align) for k, where in enumerate(places)]
    for _ in range(side.bit_length() - 1):  # Each time a digit of an entry's row becomes one of its column.
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        vectors = [builder.shuffle_vector(*pair, between(begin)) for pair in pairs for begin in (0, half)]
    for k, vector in enumerate(vectors):
        where = place(k, to, array, row, index)
        if rows is None:
            builder.store(vector, where, align=align)
        else:
            _store_masked(builder, vector, where, first_of(k, columns, rows), align)
    return context.get_dummy_value()


def _fetch(array: Any, index: Any, locality: int) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        instruction = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(place_of(context, builder, signature.args[0], *arguments), pointer)
        read, level, data = (ir.Constant(number, k) for k in (0, locality, 1))
        builder.call(instruction, [place, read, level, data])
        return context.get_dummy_value()

    return types.none(array, index), generate


def _by_pairs(left: Any, right: Any, instruction: str) -> Any:
    """The same instruction for every vector on the left and its counterpart on the right."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(*(cgutils.unpack_tuple(builder, vectors) for vectors in arguments), strict=True)
        return context.make_tuple(builder, left, [getattr(builder, instruction)(*pair) for pair in pairs])

    return left(left, right), generate


def _places(context: Any, builder: Any, signature: Any, arguments: Any, vectors: Any) -> list[Any]:
    """Where each of the vectors lies."""
    kind = ir.PointerType(context.get_value_type(vectors.dtype))
    start = builder.bitcast(place_of(context, builder, signature.args[0], *arguments[:2]), kind)
    return [builder.gep(start, [ir.Constant(ir.IntType(64), k)]) for k in range(len(vectors))]


def loaded(context: Any, builder: Any, array: Any, vectors: Any, places: list[Any]) -> Any:
    """The tuple of vectors that lie in these places."""
    return context.make_tuple(builder, vectors, [builder.load(place, align=align_of(array)) for place in places])


def stored(context: Any, builder: Any, array: Any, vectors: Any, places: list[Any]) -> Any:
    """The tuple of vectors into these places."""
    for vector, place in zip(cgutils.unpack_tuple(builder, vectors), places, strict=True):
        builder.store(vector, place, align=align_of(array))
    return context.get_dummy_value()


def _places_apart(context: Any, builder: Any, signature: Any, arguments: Any, vectors: Any) -> list[Any]:
    array, index, apart = arguments[:3]
    kind = ir.PointerType(context.get_value_type(vectors.dtype))
    indices = [builder.add(index, times(builder, apart, k)) for k in range(len(vectors))]
    return [builder.bitcast(place_of(context, builder, signature.args[0], array, at), kind) for at in indices]


def load_first(builder: Any, place: Any, count: Any, kind: Any, align: int) -> Any:
    """A vector of so many entries that lie there, and zeros; no others are touched."""
    return _load_masked(builder, place, _first(builder, count, kind), align)


def store_first(builder: Any, vector: Any, place: Any, count: Any, align: int) -> None:
    """So many entries of a vector to where they are to lie."""
    _store_masked(builder, vector, place, _first(builder, count, vector.type), align)


def _load_masked(builder: Any, place: Any, mask: Any, align: int) -> Any:
    kind, number = place.type.pointee, ir.IntType(32)
    function = ir.FunctionType(kind, [place.type, number, mask.type, kind])
    load = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.load.{_name_of(kind)}.p0")
    return builder.call(load, [place, ir.Constant(number, align), mask, ir.Constant(kind, None)])


def _store_masked(builder: Any, vector: Any, place: Any, mask: Any, align: int) -> None:
    number = ir.IntType(32)
    function = ir.FunctionType(ir.VoidType(), [vector.type, place.type, number, mask.type])
    store = cgutils.get_or_insert_function(builder.module, function, f"llvm.masked.store.{_name_of(vector.type)}.p0")
    builder.call(store, [vector, place, ir.Constant(number, align), mask])


def _name_of(kind: Any) -> str:
    return f"v{kind.count}f{64 if kind.element == ir.DoubleType() else 32}"


def _first(builder: Any, count: Any, kind: Any) -> Any:
    """Which entries of a vector are the first so many."""
    numbers = ir.VectorType(count.type, kind.count)
    every = ir.Constant(numbers, [ir.Constant(count.type, k) for k in range(kind.count)])
    return builder.icmp_signed("<", every, splat(builder, count, numbers))


def times(builder: Any, number: Any, k: int) -> Any:
    return builder.mul(number, ir.Constant(number.type, k))


def splat(builder: Any, entry: Any, kind: Any) -> Any:
    """A vector of nothing but this entry."""
    nothing, first = ir.Constant(kind, ir.Undefined), ir.Constant(ir.IntType(32), 0)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)
    return builder.shuffle_vector(builder.insert_element(nothing, entry, first), nothing, zeros)


def fused(builder: Any, total: Any, weight: Any, vector: Any) -> Any:
    """total + weight · vector, rounded once where the processor can."""
    return builder.fadd(total, builder.fmul(weight, vector, flags=CONTRACT), flags=CONTRACT)


def place_of(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def align_of(array: Any) -> int:
    return array.dtype.bitwidth // 8

"""Entries side by side in one register, for compiled loops: what the compiler does not find by itself.

It makes vectors of the innermost loop only. A product of matrices that keeps its sums in registers has them outside of
that loop, and needs vectors that a program can name.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from rankscope.compiled import Array, inner

BYTES = 32
"""Of a vector: a register of x86 processors since 2013; where they are of another length the compiler makes do."""
ONE, TWO, THREE = (0,), (0, 0), (0, 0, 0)
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
        return context.make_tuple(builder, vectors, [builder.load(place, align=_align(array)) for place in places])

    return vectors(array, index, many), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, vectors: Any) -> Any:
    """Vectors into the flat array at an index, which is not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = _places(context, builder, signature, arguments, vectors)
        for vector, place in zip(cgutils.unpack_tuple(builder, arguments[2]), places, strict=True):
            builder.store(vector, place, align=_align(array))
        return context.get_dummy_value()

    return types.none(array, index, vectors), generate


@intrinsic
def add_scaled(typing: Any, sums: Any, array: Any, index: Any, vectors: Any) -> Any:
    """sums + a · vectors for the entry a of the flat array at an index, which is not checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        entry = builder.load(_place(context, builder, signature.args[1], *arguments[1:3]))
        before, scaled = (cgutils.unpack_tuple(builder, arguments[k]) for k in (0, 3))
        kind = scaled[0].type
        first = builder.insert_element(ir.Constant(kind, ir.Undefined), entry, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None)
        weight = builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), everywhere)
        terms = [builder.fmul(weight, vector, flags=CONTRACT) for vector in scaled]
        after = [builder.fadd(a, b, flags=CONTRACT) for a, b in zip(before, terms, strict=True)]
        return context.make_tuple(builder, sums, after)

    return sums(sums, array, index, vectors), generate


@intrinsic
def plus(typing: Any, left: Any, right: Any) -> Any:
    """left + right, vector by vector."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pairs = zip(*(cgutils.unpack_tuple(builder, vectors) for vectors in arguments), strict=True)
        return context.make_tuple(builder, left, [builder.fadd(*pair) for pair in pairs])

    return left(left, right), generate


@intrinsic
def turn_square(typing: Any, array: Any, index: Any, row: Any, other: Any, there: Any, other_row: Any) -> Any:
    """As many vectors as a vector has entries, written turned: entry j of vector i is entry i of vector j.

    The first is to lie in the flat array at an index, the next one a row on; they are read from the other likewise.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index, row, other, there, other_row = arguments
        kind = Vector(signature.args[0].dtype)
        side, half, number = kind.lanes, kind.lanes // 2, ir.IntType(32)
        pointer = ir.PointerType(context.get_value_type(kind))

        def place(k: int, where: Any, at: Any, row: Any, begin: Any) -> Any:
            index = builder.add(begin, builder.mul(row, ir.Constant(row.type, k)))
            return builder.bitcast(_place(context, builder, where, at, index), pointer)

        def between(begin: int) -> Any:
            """The entries of two vectors by turns, half a vector of each."""
            places = [entry for i in range(begin, begin + half) for entry in (i, side + i)]
            return ir.Constant(ir.VectorType(number, side), [ir.Constant(number, entry) for entry in places])

        align = _align(signature.args[0])
        rows = [builder.load(place(k, signature.args[3], other, other_row, there), align=align) for k in range(side)]
        for _ in range(side.bit_length() - 1):  # Each time a digit of an entry's row becomes one of its column.
            pairs = zip(rows[:half], rows[half:], strict=True)
            rows = [builder.shuffle_vector(*pair, between(begin)) for pair in pairs for begin in (0, half)]
        for k, vector in enumerate(rows):
            builder.store(vector, place(k, signature.args[0], array, row, index), align=align)
        return context.get_dummy_value()

    integer = types.intp
    return types.none(array, integer, integer, array, integer, integer), generate


@inner
def add_up(parts: Array, whole: Array) -> None:
    """whole ← Σ_k parts_k, matrices."""
    for i in range(whole.shape[0]):
        for j in range(whole.shape[1]):
            total = parts[0, i, j]
            for k in range(1, len(parts)):
                total += parts[k, i, j]
            whole[i, j] = total


def _places(context: Any, builder: Any, signature: Any, arguments: Any, vectors: Any) -> list[Any]:
    """Where each of the vectors lies."""
    kind = ir.PointerType(context.get_value_type(vectors.dtype))
    start = builder.bitcast(_place(context, builder, signature.args[0], *arguments[:2]), kind)
    return [builder.gep(start, [ir.Constant(ir.IntType(64), k)]) for k in range(len(vectors))]


def _place(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def _align(array: Any) -> int:
    return array.dtype.bitwidth // 8

"""Compiled work on several cores at once, by the threads that torch's own operations run on.

Those wait for more work a while before they sleep, and to wake a thread takes as long as a small pass. A second team
beside them would wait on the same cores. So where torch brings GNU's OpenMP, its team is borrowed, and elsewhere one
thread does it all.

    def part(number, …): …          # compiled, returns nothing
    together(part, parts, threads, (…))
"""

import ctypes
import os
from typing import Any

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_NAME = "rankscope_team"
_WORK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def _borrow() -> int:
    """The address of OpenMP's parallel section: (function, data, threads, flags)."""
    for name in ("libgomp.so.1",):
        try:
            return ctypes.cast(ctypes.CDLL(name).GOMP_parallel, ctypes.c_void_p).value or 0
        except (OSError, AttributeError):
            continue
    return 0


@ctypes.CFUNCTYPE(None, _WORK, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
def _alone(work: Any, data: int, threads: int, flags: int) -> None:
    work(data)


llvm.add_symbol(_NAME, _borrow() or ctypes.cast(_alone, ctypes.c_void_p).value)
_forked: list[bool] = []
os.register_at_fork(after_in_child=lambda: _forked.append(True))


def size() -> int:
    """How many threads work together: torch's number of them, and one in a fork, which keeps no threads."""
    return 1 if _forked else torch.get_num_threads()


@intrinsic
def together(typing: Any, function: Any, parts: Any, threads: Any, arguments: Any) -> Any:
    """function(k, *arguments) for k from 0 to parts − 1, by so many threads, each taking the next one in turn."""
    number = types.intp
    called = types.void(number, *arguments.types)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, parts, threads, packed = given
        pointer, word = ir.IntType(8).as_pointer(), context.get_value_type(number)
        kind = context.get_value_type(signature.args[3])
        layout = ir.LiteralStructType([word, word, kind])  # The next part, their number, and the arguments.
        data = cgutils.alloca_once(builder, layout)
        for place, value in enumerate((ir.Constant(word, 0), parts, packed)):
            builder.store(value, builder.gep(data, [ir.IntType(32)(0), ir.IntType(32)(place)]))

        module = builder.module
        work = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), module.get_unique_name("team.work"))
        work.linkage = "internal"
        inner = ir.IRBuilder(work.append_basic_block("entry"))
        shared = inner.bitcast(work.args[0], layout.as_pointer())
        at = lambda place: inner.gep(shared, [ir.IntType(32)(0), ir.IntType(32)(place)])
        count, values = inner.load(at(1)), cgutils.unpack_tuple(inner, inner.load(at(2)))
        take, do, done = (work.append_basic_block(name) for name in ("take", "do", "done"))
        inner.branch(take)
        inner.position_at_end(take)
        k = inner.atomic_rmw("add", at(0), ir.Constant(word, 1), "monotonic")
        inner.cbranch(inner.icmp_signed("<", k, count), do, done)
        inner.position_at_end(do)
        resolved = function.get_call_type(context.typing_context, called.args, {})
        compiled = function.dispatcher.overloads[resolved.args]
        context.add_linking_libs([compiled.library])
        context.call_internal_no_propagate(inner, compiled.fndesc, resolved, [k, *values])
        inner.branch(take)
        inner.position_at_end(done)
        inner.ret_void()

        unsigned = ir.IntType(32)
        team = cgutils.get_or_insert_function(
            module, ir.FunctionType(ir.VoidType(), [work.type, pointer, unsigned, unsigned]), _NAME
        )
        many = builder.trunc(threads, unsigned)
        builder.call(team, [work, builder.bitcast(data, pointer), many, ir.Constant(unsigned, 0)])
        return context.get_dummy_value()

    return types.void(function, number, number, arguments), generate

"""Compiled work on several cores, by the threads that torch's own operations run on.

To wake a sleeping thread takes as long as a small pass, and threads that stay awake take a core from others that do.
Those of torch's OpenMP stay awake for some milliseconds anyhow: where it is GNU's, they are borrowed, and work begins
on all of them within a microsecond. Elsewhere the parts are worked on by a pool of Python's threads.
"""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llvmlite.binding as llvm
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_TEAM = "rankscope_team"
_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Team = ctypes.CFUNCTYPE(None, _Work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_pools: dict[int, ThreadPoolExecutor] = {}
_started: set[int] = set()
"""The processes in which there has been a team."""


def size() -> int:
    """How many threads work together: torch's number of them (``torch.set_num_threads``)."""
    threads = torch.get_num_threads()
    if threads > 1:
        _started.add(os.getpid())
    return threads


def _after_fork() -> None:
    """A fork keeps no threads, and OpenMP would wait for them for ever: torch's operations and ours go on alone."""
    _pools.clear()
    if _started:
        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_after_fork)


@intrinsic
def together(typing: Any, function: Any, parts: Any, threads: Any, arguments: Any) -> Any:
    """function(k, *arguments) for k = 0 … parts − 1, compiled, on so many threads; each takes the next part in turn.

    The function returns nothing.

    Raises:
        MemoryError: the function raised, which compiled work on arrays does where there is no room.
    """
    number = types.intp
    called = (number, *arguments.types)

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, parts, threads, packed = given
        word, pointer, unsigned = context.get_value_type(number), ir.IntType(8).as_pointer(), ir.IntType(32)
        zero, one = ir.Constant(word, 0), ir.Constant(word, 1)
        # What threads share: the next part, how many there are, whether one failed, and the arguments.
        shared = cgutils.pack_struct(builder, [zero, parts, zero, packed])
        data = cgutils.alloca_once_value(builder, shared)
        work = _loop(context, builder.module, function, called, shared.type)
        kind = ir.FunctionType(ir.VoidType(), [work.type, pointer, unsigned, unsigned])
        team = cgutils.get_or_insert_function(builder.module, kind, _TEAM)
        many = builder.trunc(threads, unsigned)
        builder.call(team, [work, builder.bitcast(data, pointer), many, ir.Constant(unsigned, 0)])
        failed = builder.load(cgutils.gep_inbounds(builder, data, 0, 2))
        with builder.if_then(builder.icmp_signed(">=", failed, one), likely=False):
            context.call_conv.return_user_exc(builder, MemoryError, ("a part of the work failed: no room for it",))
        return context.get_dummy_value()

    return types.void(function, number, number, arguments), generate


def _loop(context: Any, module: Any, function: Any, called: Any, layout: Any) -> Any:
    """What each thread runs on the shared data: while there is a part, the function on it."""
    pointer = ir.IntType(8).as_pointer()
    loop = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), module.get_unique_name("team.loop"))
    loop.linkage = "internal"
    builder = ir.IRBuilder(loop.append_basic_block("entry"))
    shared = builder.bitcast(loop.args[0], layout.as_pointer())
    turn, count, failed, packed = (cgutils.gep_inbounds(builder, shared, 0, place) for place in range(4))
    parts, arguments = builder.load(count), cgutils.unpack_tuple(builder, builder.load(packed))
    take, run, done = (loop.append_basic_block(name) for name in ("take", "run", "done"))
    builder.branch(take)
    builder.position_at_end(take)
    part = builder.atomic_rmw("add", turn, ir.Constant(parts.type, 1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", part, parts), run, done)
    builder.position_at_end(run)
    resolved = function.get_call_type(context.typing_context, called, {})
    compiled = function.dispatcher.overloads[resolved.args]
    context.add_linking_libs([compiled.library])
    status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, resolved, [part, *arguments])
    with builder.if_then(status.is_error, likely=False):
        builder.store(ir.Constant(parts.type, 1), failed)
    builder.branch(take)
    builder.position_at_end(done)
    builder.ret_void()
    return loop


@_Team
def _pooled(work: Callable[[int], None], data: int, threads: int, flags: int) -> None:
    """The same call as OpenMP's, on threads of Python's."""
    pool = _pools.setdefault(threads, ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="rankscope"))
    others = [pool.submit(work, data) for _ in range(threads - 1)]
    work(data)
    for other in others:
        other.result()


def _openmp() -> Any:
    """GNU OpenMP's parallel section as torch loaded it: (function, data, threads, flags)."""
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD).GOMP_parallel
    except (OSError, AttributeError):
        return None


llvm.add_symbol(_TEAM, ctypes.cast(_openmp() or _pooled, ctypes.c_void_p).value)

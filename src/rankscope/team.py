"""Compiled work on several cores, by the threads that torch's own operations run on.

To wake a sleeping thread takes as long as a small pass, and threads that stay awake take a core from others that do.
Those of torch's OpenMP stay awake for some milliseconds anyhow: where it is GNU's, they are borrowed, and work begins
on all of them within a microsecond. Elsewhere the parts are worked on by a pool of Python's threads.

A thread begins with the parts that it had the last time, whose numbers its cache may still hold, and then helps others.
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

_TEAM, _MEMBER = "rankscope_team", "rankscope_member"
_Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Team = ctypes.CFUNCTYPE(None, _Work, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
_Member = ctypes.CFUNCTYPE(ctypes.c_int)
_pools: dict[int, ThreadPoolExecutor] = {}
_sizes: set[int] = set()
"""Of the teams that there have been."""


def size() -> int:
    """How many threads work together: torch's number of them (``torch.set_num_threads``)."""
    threads = torch.get_num_threads()
    _sizes.add(threads)
    return threads


def _after_fork() -> None:
    """A fork keeps no threads, and OpenMP would wait for them for ever: torch's operations and ours go on alone."""
    _pools.clear()
    if any(threads > 1 for threads in _sizes):
        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_after_fork)


@intrinsic
def together(typing: Any, function: Any, parts: Any, threads: Any, arguments: Any) -> Any:
    """function(k, *arguments) for k = 0 … parts − 1, compiled, on so many threads; who is done takes parts of others.

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
        # What threads share: which parts are taken, how many there are, on how many threads, whether one failed, and
        # the arguments.
        taken = builder.alloca(word, size=parts)
        cgutils.memset(builder, taken, builder.mul(parts, ir.Constant(word, word.width // 8)), 0)
        shared = cgutils.pack_struct(builder, [taken, parts, threads, zero, packed])
        data = cgutils.alloca_once_value(builder, shared)
        work = _loop(context, builder.module, function, called, shared.type)
        kind = ir.FunctionType(ir.VoidType(), [work.type, pointer, unsigned, unsigned])
        team = cgutils.get_or_insert_function(builder.module, kind, _TEAM)
        fewer = builder.icmp_signed("<", parts, threads)
        many = builder.trunc(builder.select(fewer, parts, threads), unsigned)
        builder.call(team, [work, builder.bitcast(data, pointer), many, ir.Constant(unsigned, 0)])
        failed = builder.load(cgutils.gep_inbounds(builder, data, 0, 3))
        with builder.if_then(builder.icmp_signed(">=", failed, one), likely=False):
            context.call_conv.return_user_exc(builder, MemoryError, ("a part of the work failed: no room for it",))
        return context.get_dummy_value()

    return types.void(function, number, number, arguments), generate


def _loop(context: Any, module: Any, function: Any, called: Any, layout: Any) -> Any:
    """What each thread runs on the shared data: the function on every part that nobody took, its own ones first."""
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    loop = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), module.get_unique_name("team.loop"))
    loop.linkage = "internal"
    builder = ir.IRBuilder(loop.append_basic_block("entry"))
    shared = builder.bitcast(loop.args[0], layout.as_pointer())
    places = [cgutils.gep_inbounds(builder, shared, 0, place) for place in range(5)]
    failed = places.pop(3)
    taken, parts, threads, packed = (builder.load(place) for place in places)
    arguments, one = cgutils.unpack_tuple(builder, packed), ir.Constant(parts.type, 1)
    who = cgutils.get_or_insert_function(module, ir.FunctionType(number, []), _MEMBER)
    member = builder.zext(builder.call(who, []), parts.type)
    first = builder.sdiv(builder.mul(member, parts), threads)
    resolved = function.get_call_type(context.typing_context, called, {})
    compiled = function.dispatcher.overloads[resolved.args]
    context.add_linking_libs([compiled.library])
    with cgutils.for_range(builder, parts) as turns:
        part = builder.srem(builder.add(first, turns.index), parts)
        before = builder.atomic_rmw("xchg", builder.gep(taken, [part]), one, "monotonic")
        with builder.if_then(builder.icmp_signed("!=", before, one)):
            status, _ = context.call_internal_no_propagate(builder, compiled.fndesc, resolved, [part, *arguments])
            with builder.if_then(status.is_error, likely=False):
                builder.store(one, failed)
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


@_Member
def _nobody() -> int:
    """Threads of a pool have no numbers: each takes the next part in turn."""
    return 0


def _openmp() -> tuple[Any, Any]:
    """GNU OpenMP's parallel section as torch loaded it, (function, data, threads, flags), and who a thread is in it."""
    try:
        library = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD)
        return library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, AttributeError):
        return _pooled, _nobody


for _name, _function in zip((_TEAM, _MEMBER), _openmp(), strict=True):
    llvm.add_symbol(_name, ctypes.cast(_function, ctypes.c_void_p).value)

"""A device that is none: tensors compute on the CPU and say that they are on another device, so that what is mixed up shows.

Operations on tensors of two devices fail as they would on a GPU, and so does reading one as a NumPy array. Numbers are real, so
that a run can be compared with the CPU's. "cuda" takes the branches of a GPU, but torch's backward pass asks the driver for
one; "meta" serves where gradients are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

from pmqbench.quantization import columns, gptq_kernel, streams

ATEN = torch.ops.aten
COPIES = {ATEN.copy_.default}
INDEXED = {ATEN.index.Tensor, ATEN.index_put_.default, ATEN.index_put.default}


class Elsewhere(Tensor):
    """A tensor that says it is on `device`; `inner` has its values."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> Elsewhere:
        sizes = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = Tensor._make_wrapper_subclass(cls, inner.shape, device=device, requires_grad=inner.requires_grad, **sizes)
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner}, {self.device})"

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == Tensor.data.__set__:
            args[0].inner = args[1].inner
        if func == Tensor.tolist:
            return args[0].inner.tolist()
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} on a pretended device, outside of it")


class _Mode(TorchDispatchMode):
    """Runs every operation on the CPU, and refuses those whose tensors are on two devices."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        there = any(isinstance(tensor, Elsewhere) for tensor in given)
        if there and func not in COPIES:
            _check(func, args, given)
        asked = kwargs.get("device")
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        lands = torch.device(asked).type == self.device.type if asked is not None else there
        if func in COPIES:
            lands = isinstance(args[0], Elsewhere)
        plain, plain_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.inner, (args, kwargs))
        out = func(*plain, **plain_kwargs)
        if not lands:
            return out
        out = tree_map_only(Tensor, lambda tensor: Elsewhere(tensor, self.device), out)
        return return_and_correct_aliasing(func, args, kwargs, out) if there and _aliases(func) else out


@cache
def _aliases(func: Any) -> bool:
    """Whether what an operation gives shares memory with what it was given."""
    return any(value.alias_info is not None for value in func._schema.returns)


def _check(func: Any, args: tuple[Any, ...], given: list[Tensor]) -> None:
    """Raises RuntimeError where a real device would: single numbers may come from a CPU, and so may what indexes a tensor."""
    if func in INDEXED and isinstance(args[0], Elsewhere):
        given = [args[0], *args[2:]]
    written = func._schema.is_mutable and not isinstance(args[0], Elsewhere)
    here = [tensor for tensor in given if isinstance(tensor, Tensor) and not isinstance(tensor, Elsewhere) and tensor.dim()]
    if here or (written and "out" not in func._overloadname):
        raise RuntimeError(f"{func}: tensors on two devices, {[tuple(tensor.shape) for tensor in given]}")


class _AtOnce:
    """An executor whose work is done when it is asked for: modes are a thread's own."""

    def __init__(self, max_workers: int) -> None:
        pass

    def __enter__(self) -> _AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[[Any], Any], item: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(item))
        return future


def _kernel(work: Tensor, spread: Tensor, steps: columns.Steps, groups: Tensor, rounded: Tensor, errors: Tensor) -> None:
    """Stands for the GPU's kernel, which reads memory by its addresses: checks what it takes for granted."""
    parts = (work, steps.scale, steps.low, steps.high, groups, rounded, errors)
    assert all(isinstance(part, Elsewhere) for part in (*parts, spread))
    assert all(part.is_contiguous() for part in parts)
    assert spread.stride(1) == 1
    assert {part.dtype for part in (work, spread, steps.scale, steps.low, steps.high, rounded, errors)} == {torch.float32}
    assert groups.dtype == torch.int64
    with _disable_current_modes():
        inner = columns.Steps(steps.scale.inner, steps.low.inner, steps.high.inner)
        columns.round_on_cpu(work.inner.clone(), spread.inner, inner, groups.inner, rounded.inner, errors.inner)


@contextmanager
def pretended(name: str, monkeypatch: Any) -> Iterator[torch.device]:
    """The device `name`, "cuda" or "meta", inside of which tensors can be moved to it."""
    device = torch.device(name, 0) if name == "cuda" else torch.device(name)
    with monkeypatch.context() as patch:
        if name == "cuda":
            torch._C._ensureCUDADeviceGuardSet()
            patch.setattr(torch.cuda, "_lazy_init", lambda: None)
            patch.setattr(torch.cuda, "max_memory_allocated", lambda device: 0)
        patch.setattr(torch.__future__, "_overwrite_module_params_on_conversion", True)
        patch.setattr(Tensor, "pin_memory", lambda tensor: tensor.clone())
        patch.setattr(streams, "ThreadPoolExecutor", _AtOnce)
        patch.setattr(gptq_kernel, "round_columns", _kernel)
        with _Mode(device):
            yield device

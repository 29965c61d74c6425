"""Activations and gradients at named layers of any torch module, through hooks that always come off.

    with tap(network, ["conv.1", "conv.2"]) as taps:
        network(features, lengths)
        taps["conv.1"]                    # what that module gave in this pass

Inside the context the network is in `eval()`: no dropout, stored batch statistics. On leaving it, after an exception
too, every hook is gone and every module's training flag and every parameter's `requires_grad` is what it was.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import fnmatch
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from otoscope.base import BadInput, BadOption

INPUT = "input"
"""The name under which the features given to a network count as one of its layers."""

Visit: TypeAlias = Callable[[str, Tensor | None], Tensor | None]
"""Called as `visit(name, first tensor of the output)`; a tensor it returns takes the place of that one."""


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of a module's output: itself, or the first in a tuple, list or mapping, however deep.

    A `PackedSequence` counts as its padded tensor `(batch, frame, unit)`.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output, batch_first=True)[0]
    if isinstance(output, Mapping):
        output = list(output.values())
    if isinstance(output, tuple | list):
        return next((found for item in output if (found := first_tensor(item)) is not None), None)
    return None


def replace_first_tensor(output: Any, tensor: Tensor) -> Any:
    """The same output with `tensor` in the place of its first tensor; the output given is left as it is."""
    if isinstance(output, Tensor):
        return tensor
    if isinstance(output, PackedSequence):
        lengths = pad_packed_sequence(output, batch_first=True)[1]
        return pack_padded_sequence(tensor, lengths, batch_first=True, enforce_sorted=output.sorted_indices is None)
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        key = next(key for key, item in output.items() if first_tensor(item) is not None)
        changed[key] = replace_first_tensor(output[key], tensor)
        return changed
    items = list(output)
    place = next(place for place, item in enumerate(items) if first_tensor(item) is not None)
    items[place] = replace_first_tensor(items[place], tensor)
    # Named tuples take their fields one by one, torch's own result types all at once.
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """`network.eval()` inside; outside, every module's training flag as it was."""
    flags = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No parameter requires a gradient inside; outside, each as it was."""
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def listening(
    network: nn.Module, names: Iterable[str], visit: Visit, begin: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Call `visit` with the output of each named module, in order of execution; `begin` when a pass starts.

    Raises:
        BadOption: a name that is no module of the network.
    """
    modules = _modules(network, names)

    def listener(name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> Any:
            tensor = first_tensor(output)
            changed = visit(name, tensor)
            return None if tensor is None or changed is None else replace_first_tensor(output, changed)

        return hook

    def enter(module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        begin()
        if INPUT not in modules:
            return None
        # Features may come by position or by whatever keyword the network's author chose.
        given = [arguments, named]
        changed = visit(INPUT, first_tensor(given))
        return None if changed is None else tuple(replace_first_tensor(given, changed))

    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(network))
        stack.callback(network.register_forward_pre_hook(enter, with_kwargs=True).remove)
        for name, module in modules.items():
            if name != INPUT:
                stack.callback(module.register_forward_hook(listener(name)).remove)
        yield


def _modules(network: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    known = dict(network.named_modules(remove_duplicate=False))
    known[INPUT] = network
    known.pop("", None)
    modules = {}
    for name in map(str, names):
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            raise BadOption(
                "the network has no such layer",
                got=repr(name),
                wanted=f"'{INPUT}' or the dotted name of one of its {len(known) - 1} modules",
                remedy=(f"did you mean {' or '.join(map(repr, close))}? " if close else "")
                + "list_layers(network) shows the names",
            )
        modules[name] = known[name]
    return modules


def _expanded(network: nn.Module, names: Iterable[str]) -> list[str]:
    """Names with globs replaced by the modules they fit; `"*"` by the network's own layers, where it names them."""
    known = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    found: list[str] = []
    for name in map(str, names):
        own = getattr(network, "layer_names", None) if name == "*" else None
        globbed = fnmatch.filter(known, name) if name not in known and set(name) & set("*?[") else []
        found += own or globbed or [name]
    return found


class Taps(Mapping[str, Tensor]):
    """Layer name → what that layer gave in the latest forward pass of the network, in the module's own axes.

    Reading a layer raises `BadInput` where it has not run, has run more than once in the pass, or gave no tensor.
    """

    def __init__(self, names: Iterable[str], grads: bool) -> None:
        self._names = tuple(dict.fromkeys(map(str, names)))
        self._with_grads = grads
        self._tensors: dict[str, Tensor | None] = {}
        self._calls: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise BadOption("this layer is not tapped", got=repr(name), wanted=", ".join(self._names))
        if self._calls[name] > 1:
            raise BadInput(
                f"layer {name!r} was called {self._calls[name]} times in one forward pass",
                wanted="a module that is called once, so that its output is one thing",
                remedy="tap the module around it, or the modules after it",
            )
        if not self._calls[name]:
            raise BadInput(
                f"layer {name!r} has not run",
                wanted="a forward pass of the network, inside the context, that calls this module",
                remedy="list_layers(network) names the layers that run",
            )
        tensor = self._tensors[name]
        if tensor is None:
            raise BadInput(f"layer {name!r} gave no tensor", remedy="tap a module whose output holds one")
        return tensor

    @property
    def grads(self) -> Mapping[str, Tensor]:
        """Layer name → gradient with respect to that layer's output, after `backward()`.

        Reading one raises `BadInput` before a backward pass, and where what was differentiated does not depend on it.
        """
        return _Grads(self)

    def _begin(self) -> None:
        self._tensors.clear()
        self._calls.clear()

    def _visit(self, name: str, tensor: Tensor | None) -> Tensor | None:
        self._calls[name] += 1
        if tensor is None:
            self._tensors[name] = None
            return None
        if not self._with_grads:
            self._tensors[name] = tensor.detach()
        elif not (tensor.is_floating_point() or tensor.is_complex()):
            self._tensors[name] = tensor
        else:
            if tensor.is_inference():
                tensor = tensor.clone()
            if not tensor.requires_grad:
                # The graph starts at the first tapped layer: nothing before it needs to be kept.
                tensor = tensor.detach().requires_grad_()
            elif not tensor.is_leaf:
                tensor.retain_grad()
            self._tensors[name] = tensor
        # Whatever follows may write in place (ReLU(inplace=True)): it writes on a copy.
        return tensor.clone()


class _Grads(Mapping[str, Tensor]):
    def __init__(self, taps: Taps) -> None:
        self._taps = taps

    def __iter__(self) -> Iterator[str]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def __contains__(self, name: object) -> bool:
        return name in self._taps

    def __getitem__(self, name: str) -> Tensor:
        gradient = self._taps[name].grad
        if gradient is None:
            raise BadInput(
                f"layer {name!r} has no gradient",
                wanted="tap(..., grads=True) and a backward() from something that depends on this layer",
            )
        return gradient


@contextlib.contextmanager
def tap(network: nn.Module, layers: str | Iterable[str], grads: bool = False) -> Iterator[Taps]:
    """Tap the outputs of named modules while the network runs.

    Args:
        network: any module; inside the context it is in `eval()`.
        layers: dotted module names or globs over them, one or several; `"*"` is all of the network's own layers (its
            `layer_names`, else every module), `"input"` is the first tensor given to `forward`.
        grads: also make gradients with respect to the tapped outputs available after `backward()`. Parameters then
            require none, so the graph holds only what lies after the first tapped layer. Gradients are recorded even
            where the caller has switched them off. Without `grads` the outputs are detached.

    Yields:
        `Taps`, a mapping from layer name to the output of the latest forward pass; it stays readable afterwards.

    Raises:
        BadOption: a name that is no module of the network.
    """
    taps = Taps(_expanded(network, [layers] if isinstance(layers, str) else layers), grads)
    with contextlib.ExitStack() as stack:
        if grads:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(frozen(network))
            if any(isinstance(module, nn.RNNBase) for module in network.modules()):
                # cuDNN's recurrent layers refuse to run backward in eval().
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(listening(network, taps, taps._visit, taps._begin))
        yield taps

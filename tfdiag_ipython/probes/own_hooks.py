"""Hooks that the person put on a model: who runs the model for them runs these too, and they may keep what they see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LIBRARIES = ("torch", "transformers", "accelerate", "peft")
FORWARD = ("_forward_hooks", "_forward_pre_hooks")
BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
OF_TENSORS = ("_backward_hooks", "_post_accumulate_grad_hooks")
OF_OPTIMIZERS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")


def has_own_hooks(model: Any) -> bool:
    """Whether hooks of the person's own see a forward pass of the model."""
    return any(map(_own, _on_modules(model, FORWARD)))


def step_has_own_hooks(model: Any, optimizer: Any) -> bool:
    """Whether hooks of the person's own see a step: forward, backward, and the optimizer's where there is one."""
    return (
        any(map(_own, _on_modules(model, FORWARD + BACKWARD)))
        or any(
            _own(hook) for one in model.parameters() for name in OF_TENSORS for hook in _hooks(getattr(one, name, None))
        )
        or any(_own(hook) for name in OF_OPTIMIZERS for hook in _hooks(getattr(optimizer, name, None)))
    )


def _on_modules(model: Any, names: tuple[str, ...]) -> Iterator[Any]:
    for module in model.modules():
        for name in names:
            yield from _hooks(vars(module).get(name))


def _hooks(held: Any) -> tuple[Any, ...]:
    return tuple(held.values()) if held else ()


def _own(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).split(".")[0] not in LIBRARIES

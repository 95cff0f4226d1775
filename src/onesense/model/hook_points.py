"""Addresses of activations, by their TransformerLens names.

Every public dictionary release names its hook point in TransformerLens' vocabulary
(``blocks.8.hook_resid_pre``), so that is the address language here; interp-engine maps it to a module of the
Hugging Face model.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from onesense.errors import HookPointError

# What onesense promises to map on every family; interp-engine decides where each one lives.
MAPPABLE_SUFFIXES: tuple[str, ...] = (
    "hook_resid_pre",
    "hook_resid_mid",
    "hook_resid_post",
    "hook_attn_out",
    "hook_mlp_out",
    "mlp.hook_in",
    "mlp.hook_pre",
    "mlp.hook_post",
    "mlp.hook_out",
    "attn.hook_in",
    "attn.hook_out",
    "attn.hook_z",
)
_NAME = re.compile(r"blocks\.(?P<layer>\d{1,6})\.(?P<suffix>[A-Za-z0-9_.]+)")


@dataclass(frozen=True, slots=True, order=True)
class HookPoint:
    """One activation of a language model.

    Attributes:
        layer: Block index, from 0.
        suffix: What is read within the block, one of ``MAPPABLE_SUFFIXES``.
    """

    layer: int
    suffix: str

    @property
    def name(self) -> str:
        """The TransformerLens name, such as ``blocks.8.hook_resid_pre``."""
        return f"blocks.{self.layer}.{self.suffix}"

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, name: str) -> HookPoint:
        """Read a TransformerLens hook name.

        Args:
            name: For example ``blocks.8.hook_resid_pre``.

        Raises:
            HookPointError: The name does not map; the message lists those that do.
        """
        match = _NAME.fullmatch(name.strip())
        suffix = match["suffix"] if match else name.strip().split(".", 2)[-1]
        if match is None or suffix not in MAPPABLE_SUFFIXES:
            near = difflib.get_close_matches(suffix, MAPPABLE_SUFFIXES, n=1)
            guess = f" Did you mean `blocks.<layer>.{near[0]}`?" if near else ""
            mappable = ", ".join(f"blocks.<layer>.{known}" for known in MAPPABLE_SUFFIXES)
            raise HookPointError(
                f"The hook point `{name}` does not map to a place in the model.",
                hint=f"Those that map: {mappable}.{guess}",
            )
        return cls(int(match["layer"]), suffix)

    def at_layer(self, layer: int) -> HookPoint:
        """The same place in another block."""
        return HookPoint(layer, self.suffix)

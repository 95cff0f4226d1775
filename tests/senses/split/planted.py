"""Two true features that a dictionary holds as one."""

from __future__ import annotations

import numpy as np
import torch

from onesense.model.hook_points import HookPoint
from onesense.sae.dictionary import Architecture, Dictionary
from onesense.senses.split.split_text import Part, SplitText

D_IN, OTHERS = 24, 8
PARENT = 3


def merged_dictionary(architecture: Architecture = Architecture.JUMPRELU) -> Dictionary:
    """Axes as features; feature 3 reads axes 0 and 1, and writes their mean; the others read axes 2 to 9."""
    features = OTHERS + 1
    W_enc, W_dec = torch.zeros(D_IN, features), torch.zeros(features, D_IN)
    axes = iter(range(2, 2 + OTHERS))
    for feature in range(features):
        if feature == PARENT:
            W_enc[:2, feature], W_dec[feature, :2] = 1.0, 0.5
        else:
            axis = next(axes)
            W_enc[axis, feature], W_dec[feature, axis] = 1.0, 1.0
    return Dictionary(
        architecture=architecture,
        hook_point=HookPoint(0, "hook_resid_pre"),
        W_enc=W_enc,
        b_enc=torch.zeros(features)
        if architecture is Architecture.JUMPRELU
        else torch.full((features,), -0.5),
        W_dec=W_dec,
        b_dec=torch.zeros(D_IN),
        threshold=torch.full((features,), 0.5) if architecture is Architecture.JUMPRELU else None,
    )


def planted_text(dictionary: Dictionary, *, rows: int = 3000, seed: int = 0) -> tuple[SplitText, np.ndarray]:
    """Axes that are 0 or about 2, with noise; and which of the first two is on, 0 or 1, -1 for none."""
    generator = np.random.default_rng(seed)
    which = generator.choice([-1, 0, 1], size=rows, p=[0.7, 0.2, 0.1])
    inputs = 0.05 * generator.normal(size=(rows, D_IN))
    on = generator.random((rows, OTHERS)) < 0.2
    inputs[:, 2 : 2 + OTHERS] += on * generator.uniform(1.5, 2.5, size=on.shape)
    for axis in (0, 1):
        inputs[which == axis, axis] += generator.uniform(1.5, 2.5, size=int((which == axis).sum()))
    inputs = torch.from_numpy(inputs).float()
    latents = dictionary.encode(inputs)
    own = latents[:, [PARENT]].clone()
    latents[:, PARENT] = 0
    part = generator.choice([Part.FIT, Part.CHOICE, Part.HELD_OUT], size=rows, p=[0.5, 0.2, 0.3])
    text = SplitText((PARENT,), inputs, inputs - dictionary.decode(latents), own, part.astype(np.int8), ())
    return text, which


def senses_of(text: SplitText, which: np.ndarray) -> np.ndarray:
    """The sense of each position that is not held out and where the parent fires."""
    fires = (text.latents[:, 0] > 0).numpy() & (text.part != Part.HELD_OUT) & (which >= 0)
    return np.where(fires, which, -1).astype(np.int8)

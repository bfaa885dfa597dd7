"""Which network fits which windows: the defaults of `melisma train`, in one place."""

from typing import Any

from melisma.sequence._recipe import Recipe
from melisma.sequence.examples import Examples
from melisma.sequence.model import ModelConfig

# Windows up to this keep every position; up to the second they are pooled by 4; longer ones have
# attention as well.
_SHORT, _LONG = 128, 1000


def default_config(examples: Examples, *, counts: bool, **changes: Any) -> ModelConfig:
    """The network for these examples; `changes` are fields of `ModelConfig`.

    Parameters
    ----------
    counts : targets are counts (beta-binomial), not labels
    """
    told: dict[str, Any] = {
        "width": examples.width,
        "heads": tuple(examples.heads),
        "environment": examples.environment.width,
        "neighbours": examples.neighbours,
        "surroundings": examples.scales,
        "head": "beta_binomial" if counts else "bernoulli",
    }
    if examples.width > _LONG:
        told |= {
            "pool": 16, "stem": 15, "dilations": (1, 2, 4, 8, 1), "attention": 2,
            "position": "rotary", "read_out": 8, "centre": 101,
        }  # fmt: skip
    elif examples.width > _SHORT:
        told |= {
            "pool": 8, "stem": 13, "dilations": (1, 2, 4, 8, 1), "read_out": 8, "centre": 61,
        }  # fmt: skip
    return ModelConfig(**(told | changes))


def default_recipe(examples: Examples, *, symmetric: bool, **changes: Any) -> Recipe:
    """How these examples are trained on; `changes` are fields of `Recipe`."""
    return Recipe(**({"symmetric": symmetric} | changes))

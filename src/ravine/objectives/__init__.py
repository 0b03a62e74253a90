"""What is minimized: `quadratic`, `expression`, and the interface that both fulfil."""

from __future__ import annotations

from ravine.objectives.catalogue import section_6
from ravine.objectives.formulas import Expression, expression
from ravine.objectives.objective import CompiledOracles, Objective, beginning
from ravine.objectives.parsing import FormulaError
from ravine.objectives.quadratics import quadratic

__all__ = [
    "CompiledOracles",
    "Expression",
    "FormulaError",
    "Objective",
    "beginning",
    "expression",
    "quadratic",
    "section_6",
]

"""What is minimised: `quadratic`, `expression`, and the interface that both fulfil."""

from __future__ import annotations

from ravine.objectives.catalogue import section_6
from ravine.objectives.formulas import Expression, expression
from ravine.objectives.objective import CompiledOracles, Objective
from ravine.objectives.parsing import FormulaError
from ravine.objectives.quadratics import quadratic

__all__ = ["CompiledOracles", "Expression", "FormulaError", "Objective", "expression", "quadratic", "section_6"]

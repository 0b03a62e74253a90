"""A counterexample made simple: fewer coordinates, fewer digits, certain at each turn."""

from __future__ import annotations

from collections.abc import Iterator

from ravine.claims.refutation import Refutation, refute
from ravine.claims.samplers import Instance, digits
from ravine.claims.statement import Claim, Statement

Place = tuple[str, int | None]  # a parameter's name, and where in it if it is a tuple


def shrink(statement: Statement, claim: Claim, found: Refutation, budget: int = 250) -> Refutation:
    """A simpler counterexample: fewer coordinates, fewer digits; certified again at each turn.

    It keeps at least a tenth of the violation, so that what is shown is not a hair's breadth.
    """
    best, floor = found, found.bound / 10

    def accepts(instance: Instance) -> bool:
        nonlocal best, budget
        if budget <= 0 or instance == best.instance:
            return False
        budget -= 1
        try:
            shrunk = refute(statement, claim, instance)
        except (ArithmeticError, ValueError, IndexError):
            return False
        if shrunk is None or shrunk.bound > floor:
            return False
        best = shrunk
        return True

    accepts(_in_units(best.instance))
    moved = True
    while moved and budget > 0:
        moved = False
        for simpler in _with_fewer_coordinates(best.instance):
            moved = accepts(simpler) or moved
        for place in _places(best.instance):
            for value in _simpler_values(_value(best.instance, place)):
                if accepts(_replaced(best.instance, place, value)):
                    moved = True
                    break
    return best


def _in_units(instance: Instance) -> Instance:
    """The same quadratic run in units in which λ₁ = 1 and ρ = 1, to four digits."""
    if not {"eigenvalues", "eta", "rho"} <= instance.keys() or {"w", "R"} & instance.keys():
        return instance
    sharpness, rho = instance["eigenvalues"][0], instance["rho"]
    moved = {"v": tuple(digits(x / (sharpness * rho), 4) for x in instance["v"])} if "v" in instance else {}
    return (
        instance
        | moved
        | {
            "eigenvalues": tuple(digits(x / sharpness, 4) for x in instance["eigenvalues"]),
            "eta": digits(instance["eta"] * sharpness, 4),
            "rho": 1.0,
        }
    )


def _with_fewer_coordinates(instance: Instance) -> Iterator[Instance]:
    size = len(instance["eigenvalues"]) if "eigenvalues" in instance else 0
    for drop in range(size - 1, 0, -1) if size > 2 else ():
        yield {
            name: tuple(x for k, x in enumerate(value) if k != drop)
            if isinstance(value, tuple) and len(value) == size
            else value
            for name, value in instance.items()
        }


def _places(instance: Instance) -> list[Place]:
    places: list[Place] = []
    for name, value in instance.items():
        if isinstance(value, float):
            places.append((name, None))
        elif isinstance(value, tuple):
            places += [(name, k) for k, x in enumerate(value) if isinstance(x, float)]
    return places


def _value(instance: Instance, place: Place) -> float:
    name, index = place
    return instance[name] if index is None else instance[name][index]


def _replaced(instance: Instance, place: Place, value: float) -> Instance:
    name, index = place
    if index is None:
        return instance | {name: value}
    return instance | {name: (*instance[name][:index], value, *instance[name][index + 1 :])}


def _simpler_values(value: float) -> list[float]:
    """Values simpler than `value`, simplest first; none for one that is simple already."""
    tried = [0.0, 1.0, abs(value), float(f"{value:.0e}"), float(f"{value:.1e}")]
    return [x for k, x in enumerate(tried) if _complexity(x) < _complexity(value) and x not in tried[:k]]


def _complexity(value: float) -> tuple[int, int, int]:
    mantissa, exponent = f"{abs(value):.16e}".split("e")
    significant = mantissa.replace(".", "").rstrip("0")
    return len(significant), abs(int(exponent)) + (significant not in ("", "1")), int(value < 0)

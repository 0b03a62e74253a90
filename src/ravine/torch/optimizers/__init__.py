"""SAM and its relatives as torch optimizers: the second pass, its rules, what a step tells, and a radius for it."""

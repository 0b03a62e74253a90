"""The curvature of a network: Hessian products with stated bounds, third derivatives, and what they say of a run."""

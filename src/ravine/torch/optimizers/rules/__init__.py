"""What tells SAM's relatives apart, one small class each; `interface.Rule` says how to write one's own."""

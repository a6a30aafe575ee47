"""Reference numbers: reduced models with rule-filled weights, run through the published code."""

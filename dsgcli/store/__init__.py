"""Models on disk: found, verified, converted, and read without running what is in them."""

"""Teachers: slow ways to draw a portrait, whose pairs a translator learns from (stage `distill`)."""

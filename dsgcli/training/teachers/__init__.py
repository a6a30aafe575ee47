"""Teachers: slow ways to draw a portrait. A translator learns from their pairs (`distill`)."""

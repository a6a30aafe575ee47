"""frames -> faces -> crops -> latents -> portraits -> frames: the main job, whole."""

"""From a folder of portraits to a style: stages that share one loop and one set of losses."""

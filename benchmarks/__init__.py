"""Measurements of speed, memory and quality, with the peers side by side in one run."""

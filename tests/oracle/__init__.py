"""The only place that imports torch or transformers."""

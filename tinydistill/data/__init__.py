"""Text in, batches out: corpora, tokenizers, masking, length-bucketed batches."""

"""What models are built from: modules hold parameters, and nothing that changes during a run."""

from tinydistill.nn.attention import SelfAttention
from tinydistill.nn.encoder import EncoderLayer, FeedForward
from tinydistill.nn.layers import Dropout, Embedding, LayerNorm, Linear
from tinydistill.nn.module import Module

__all__ = ["Dropout", "Embedding", "EncoderLayer", "FeedForward", "LayerNorm", "Linear", "Module", "SelfAttention"]

"""What models are built from: modules hold parameters, and nothing that changes during a run."""

from tinydistill.nn.attention import SelfAttention
from tinydistill.nn.encoder import EncoderLayer, FeedForward
from tinydistill.nn.layers import Dropout, Embedding, GroupedLinear, LayerNorm, Linear, NoNorm
from tinydistill.nn.lstm import BidirectionalLstm, Lstm
from tinydistill.nn.module import Module

__all__ = ["BidirectionalLstm", "Dropout", "Embedding", "EncoderLayer", "FeedForward", "GroupedLinear", "LayerNorm",
           "Linear", "Lstm", "Module", "NoNorm", "SelfAttention"]

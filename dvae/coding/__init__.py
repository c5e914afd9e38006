"""Files of bits: images compressed with a trained model, and decompressed again."""

from dvae.coding.bitfile import BitFile
from dvae.coding.codec import compress, decompress, decompressed

__all__ = ["BitFile", "compress", "decompress", "decompressed"]

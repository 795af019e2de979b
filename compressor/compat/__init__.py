"""`compat="llmlingua"`: the same words as llmlingua 0.2.2's `compress_prompt_llmlingua2`.

For people who move from llmlingua and need their outputs unchanged, and for fair comparisons. Everything that
llmlingua does to the text, its faults included, is done here too; `docs/llmlingua.md` lists them. New code
wants `compressor.Compressor`, which has none of them. Importing this package does not import torch.
"""

from compressor.compat.compress import compress_llmlingua, prepare, select
from compressor.compat.options import LLMLinguaOptions, LLMLinguaResult

__all__ = ["LLMLinguaOptions", "LLMLinguaResult", "compress_llmlingua", "prepare", "select"]

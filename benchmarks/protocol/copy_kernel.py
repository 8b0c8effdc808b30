"""A streaming copy in Triton: one of the copies that a run's anchor is the fastest of."""

import torch
import triton
import triton.language as tl

# Four 16-byte accesses of each of 256 threads.
BLOCK, WARPS = 4096, 8
WORD = torch.int32
BLOCK_BYTES = BLOCK * WORD.itemsize


@triton.jit
def copy_kernel(source_ptr, target_ptr, BLOCK: tl.constexpr):
    """Block i of BLOCK words; there is no tail, so that no access has a mask."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    words = tl.load(source_ptr + at, eviction_policy="evict_first")
    tl.store(target_ptr + at, words, eviction_policy="evict_first")


def copy(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Writes the bytes of `source` to `target`, both contiguous and of a multiple of BLOCK_BYTES; gives `target`."""
    count = source.nbytes
    if count % BLOCK_BYTES or count != target.nbytes:
        raise ValueError(f"expected as many bytes in both, a multiple of {BLOCK_BYTES}, got {count}, {target.nbytes}")
    if count:
        grid = (count // BLOCK_BYTES,)
        copy_kernel[grid](source.view(WORD), target.view(WORD), BLOCK=BLOCK, num_warps=WARPS)
    return target

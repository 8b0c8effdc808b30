"""The kernels, and the blocks of `rnam.blocked`, as differentiable functions with the signatures of `rnam.reference`:
the one file that knows both autograd and, by `_adapters`, these two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam import _adapters, reference
from rnam._operators import Operator, learns

_Maybe = Tensor | None


class _Layers:
    """The functions of the layers on three operators, and the launchers that these call."""

    def __init__(
        self,
        min_gru: Operator,
        min_gru_last: Operator,
        grouped_linear: Operator,
        feed_forward: Operator,
        launchers: Callable[[], Any],
    ) -> None:
        self._min_gru, self._min_gru_last = min_gru, min_gru_last
        self._grouped_linear, self._feed_forward = grouped_linear, feed_forward
        self._launchers = launchers

    def min_gru(
        self,
        input: Tensor,
        weight: Tensor,
        h0: _Maybe,
        mask: _Maybe,
        reset: _Maybe,
        space: str,
        need_h: bool = True,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]:
        start = None if h0 is None else reference.forget(h0, reset, input)
        if embedding is not None:
            columns = self._launchers().embedded_columns(input.shape[-1], input.dtype.itemsize)
            input, weight = _compose(input, embedding, weight, columns)
        # the backward reads h
        if need_h or learns(input, weight, start):
            h, h_last = self._min_gru(input, weight, start, _adapters.encode(mask, reset), space)
            return h if need_h else h[:, :, :0], h_last
        (h_last,) = self._min_gru_last(input, weight, start, _adapters.encode(mask, reset), space)
        return h_last[:, :, :0].to(input.dtype), h_last

    def min_lstm(
        self,
        input: Tensor,
        weight: Tensor,
        h0: _Maybe,
        mask: _Maybe,
        reset: _Maybe,
        need_h: bool = True,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]:
        return self.min_gru(input, weight, h0, mask, reset, "lstm", need_h, embedding)

    def min_gru_projected(
        self, input: Tensor, weight: Tensor, out_weight: Tensor, h0: _Maybe, mask: _Maybe, reset: _Maybe
    ) -> tuple[Tensor, Tensor]:
        h, h_last = self.min_gru(input, weight, h0, mask, reset, "linear")
        return self.grouped_linear(h, out_weight, None, None), h_last

    def keeps_embedding(self, in_dim: int, dim: int) -> bool:
        return bool(self._launchers().feed_forward_keeps_embedding(in_dim, dim))

    def grouped_linear(
        self, input: Tensor, weight: Tensor, bias: _Maybe, activation: str | None, out: _Maybe = None
    ) -> Tensor:
        rows = input.flatten(1, -2)
        if out is not None and out.is_contiguous() and not torch.compiler.is_compiling():
            into = out.view(*rows.shape[:2], weight.shape[2])
            self._launchers().grouped_linear_forward(rows, weight, bias, activation, out=into)
            return out
        (y,) = self._grouped_linear(rows, weight, bias, None, activation or "none")
        y = y.reshape(*input.shape[:-1], weight.shape[-1])
        return y if out is None else out.copy_(y)

    def feed_forward(
        self,
        input: Tensor,
        update: Tensor,
        norm_weight: Tensor,
        norm_bias: Tensor,
        weight1: Tensor,
        bias1: Tensor,
        weight2: Tensor,
        bias2: Tensor,
        embedding: reference.Embedding = None,
    ) -> Tensor:
        dim = update.shape[-1]
        if embedding is not None and not self.keeps_embedding(input.shape[-1], dim):
            input, embedding = self.grouped_linear(input, *embedding, None), None
        if not self._launchers().feed_forward_is_fused(dim):
            x = reference.widen(input)
            scale, shift = norm_weight.to(x.dtype), norm_bias.to(x.dtype)
            n = torch.nn.functional.layer_norm(x + update, (dim,), scale, shift, reference.NORM_EPS).to(input.dtype)
            return input + self.grouped_linear(self.grouped_linear(n, weight1, bias1, "relu"), weight2, bias2, None)
        packed = _pack(norm_weight, norm_bias, weight1, bias1, weight2, bias2, *(embedding or ()))
        (y,) = self._feed_forward(input.flatten(1, -2), packed, update.flatten(1, -2), None, "none")
        return y.reshape(update.shape)

    def min_gru_block(
        self,
        input: Tensor,
        weight: Tensor,
        h0: _Maybe,
        mask: _Maybe,
        reset: _Maybe,
        *parameters: Tensor,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]:
        h, h_last = self.min_gru(input, weight, h0, mask, reset, "linear", embedding=embedding)
        norm_weight, norm_bias, weight1, bias1, weight2, bias2 = parameters
        return self.feed_forward(input, h, norm_weight, norm_bias, weight1, bias1, weight2, bias2, embedding), h_last


class _Kernels(_Layers):
    """All on the kernels."""

    def min_gru_projected(
        self, input: Tensor, weight: Tensor, out_weight: Tensor, h0: _Maybe, mask: _Maybe, reset: _Maybe
    ) -> tuple[Tensor, Tensor]:
        hidden, dim = out_weight.shape[1:]
        fused = self._launchers().projected_is_fused(dim, hidden)
        if not fused or learns(input, weight, out_weight, h0):
            return super().min_gru_projected(input, weight, out_weight, h0, mask, reset)
        start = None if h0 is None else reference.forget(h0, reset, input)
        packed = torch.cat([reference.widen(w).flatten(1) for w in (weight, out_weight)], dim=1)
        y, h_last = _MIN_GRU_PROJECTED(input, packed, start, _adapters.encode(mask, reset), "none")
        return y, h_last

    def min_gru_block(
        self,
        input: Tensor,
        weight: Tensor,
        h0: _Maybe,
        mask: _Maybe,
        reset: _Maybe,
        *parameters: Tensor,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]:
        dim = weight.shape[1]
        if not self._launchers().feed_forward_is_fused(dim):
            return super().min_gru_block(input, weight, h0, mask, reset, *parameters, embedding=embedding)
        if embedding is not None and not self.keeps_embedding(input.shape[-1], dim):
            input, embedding = self.grouped_linear(input, *embedding, None), None
        start = None if h0 is None else reference.forget(h0, reset, input)
        first = reference.widen(weight) if embedding is None else _composed(input, embedding, weight)
        packed = torch.cat([first.flatten(1), _pack(*parameters, *(embedding or ()))], dim=1)
        packed = torch.unflatten(packed, 1, (-1, dim))
        kept = "h" if learns(input, packed, start) else "none"  # the backward reads h
        y, h_last, _ = _BLOCK(input, packed, start, _adapters.encode(mask, reset), kept)
        return y, h_last

    def linear_scan(self, coeffs: Tensor, values: Tensor, h0: _Maybe) -> Tensor:
        return _SCAN(coeffs, values, h0, None, "linear")[0]

    def log_scan(self, log_coeffs: Tensor, log_values: Tensor, log_h0: _Maybe) -> Tensor:
        return _SCAN(log_coeffs, log_values, log_h0, None, "log")[0]


class _Blocks(_Layers):
    """The layers in blocks; what is asked for in logs, and the bare scans, are the reference's."""

    def min_gru(
        self,
        input: Tensor,
        weight: Tensor,
        h0: _Maybe,
        mask: _Maybe,
        reset: _Maybe,
        space: str,
        need_h: bool = True,
        embedding: reference.Embedding = None,
    ) -> tuple[Tensor, Tensor]:
        if space == "log":
            return reference.min_gru(input, weight, h0, mask, reset, space, need_h, embedding)
        return super().min_gru(input, weight, h0, mask, reset, space, need_h, embedding)

    linear_scan = staticmethod(reference.linear_scan)
    log_scan = staticmethod(reference.log_scan)


def _pack(*parameters: Tensor) -> Tensor:
    """The parameters of a feed-forward as kernels and blocks read them, one row per term (`unpack`).

    They are widened first, so that a gradient is summed over the terms before it is rounded.
    """
    terms = parameters[2].shape[0]
    wide = [reference.widen(p) for p in parameters]
    return torch.cat([*(p.expand(terms, -1) for p in wide[:2]), *(p.flatten(1) for p in wide[2:])], dim=1)


def _composed(input: Tensor, embedding: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
    """[E W; b W], whose product with [input, 1] is that of input E + b with W. The weight is not rounded before it is
    read."""
    before, bias = embedding
    rows = torch.cat([reference.widen(before.to(input.dtype)), reference.widen(bias)], dim=1)
    return torch.bmm(rows, reference.widen(weight.to(input.dtype)))


def _compose(input: Tensor, embedding: tuple[Tensor, Tensor], weight: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """[input, 1] and its weight, both padded to `columns`."""
    joined = _composed(input, embedding, weight)
    missing = columns - joined.shape[1]
    return pad(input, (0, 1 + missing), value=1.0), pad(joined, (0, 0, 0, missing)) if missing else joined


_MIN_GRU = Operator(
    name="min_gru",
    outputs=2,
    launch=_adapters.min_gru(_adapters.kernels, need_h=True),
    launch_backward=_adapters.min_gru_backward(_adapters.kernels),
    fake=_adapters.fake_min_gru,
    twin=_adapters.twin_min_gru,
    joins_terms=True,
)
_MIN_GRU_LAST = Operator(
    name="min_gru_last",
    outputs=1,
    launch=_adapters.min_gru(_adapters.kernels, need_h=False),
    launch_backward=_adapters.min_gru_last_backward(_adapters.kernels),
    fake=lambda *given: _adapters.fake_min_gru(*given)[1:],
    twin=lambda *given: _adapters.twin_min_gru(*given)[1:],
    joins_terms=True,
    reads=None,
)
_MIN_GRU_PROJECTED = Operator(
    name="min_gru_projected",
    outputs=2,
    launch=_adapters.projected,
    launch_backward=_adapters.projected_backward,
    fake=_adapters.fake_projected,
    twin=_adapters.twin_projected,
    joins_terms=True,
    reads=None,
)
_GROUPED_LINEAR = Operator(
    name="grouped_linear",
    outputs=1,
    launch=_adapters.linear(_adapters.kernels),
    launch_backward=_adapters.linear_backward(_adapters.kernels),
    fake=_adapters.fake_linear,
    twin=_adapters.twin_linear,
    joins_terms=True,
    reads=None,
)
_SCAN = Operator(
    name="scan",
    outputs=1,
    launch=_adapters.scan,
    launch_backward=_adapters.scan_backward,
    fake=lambda a, b, h0, option: (torch.empty_like(b, memory_format=torch.contiguous_format),),
    twin=_adapters.twin_scan,
    joins_terms=False,
)
_FEED_FORWARD = Operator(
    name="feed_forward",
    outputs=1,
    launch=_adapters.feed_forward(_adapters.kernels),
    launch_backward=_adapters.feed_forward_backward(_adapters.kernels),
    fake=_adapters.fake_feed_forward,
    twin=_adapters.twin_feed_forward,
    joins_terms=True,
    reads=None,
)
_BLOCK = Operator(
    name="min_gru_block",
    outputs=3,
    launch=_adapters.block,
    launch_backward=_adapters.block_backward,
    fake=_adapters.fake_block,
    twin=_adapters.twin_block,
    joins_terms=True,
    reads=2,
)
KERNELS = _Kernels(_MIN_GRU, _MIN_GRU_LAST, _GROUPED_LINEAR, _FEED_FORWARD, _adapters.kernels)
BLOCKS = _Blocks(
    replace(
        _MIN_GRU,
        name="blocked_min_gru",
        launch=_adapters.min_gru(_adapters.blocks, need_h=True),
        launch_backward=_adapters.min_gru_backward(_adapters.blocks),
    ),
    replace(
        _MIN_GRU_LAST,
        name="blocked_min_gru_last",
        launch=_adapters.min_gru(_adapters.blocks, need_h=False),
        launch_backward=_adapters.min_gru_last_backward(_adapters.blocks),
    ),
    replace(
        _GROUPED_LINEAR,
        name="blocked_linear",
        launch=_adapters.linear(_adapters.blocks),
        launch_backward=_adapters.linear_backward(_adapters.blocks),
    ),
    replace(
        _FEED_FORWARD,
        name="blocked_feed_forward",
        launch=_adapters.feed_forward(_adapters.blocks),
        launch_backward=_adapters.feed_forward_backward(_adapters.blocks),
    ),
    _adapters.blocks,
)

"""The kernels, and the blocks of `rnam.blocked`, as differentiable functions with the signatures of `rnam.reference`:
the one file that knows both autograd and these two.

Triton and the kernels are imported at the first launch, so that `import rnam` needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam import blocked, reference
from rnam._operators import Operator, learns
from rnam.blocked.feed_forward import unpack
from rnam.blocked.plan import MASKED, RESET  # as the kernels read them too

_Maybe = Tensor | None
_Needs = tuple[bool, bool, bool]


def _kernels() -> Any:
    import rnam.kernels as kernels

    return kernels


def _blocks() -> Any:
    return blocked


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
            h, h_last = self._min_gru(input, weight, start, _encode(mask, reset), space)
            return h if need_h else h[:, :, :0], h_last
        (h_last,) = self._min_gru_last(input, weight, start, _encode(mask, reset), space)
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
        # widened first, so that a gradient is summed over the terms before it is rounded
        of_all_terms = (reference.widen(p).expand(weight1.shape[0], dim) for p in (norm_weight, norm_bias))
        each = (weight1, bias1, weight2, bias2, *(embedding or ()))
        packed = torch.cat([*of_all_terms, *(reference.widen(p).flatten(1) for p in each)], dim=1)
        (y,) = self._feed_forward(input.flatten(1, -2), packed, update.flatten(1, -2), None, "none")
        return y.reshape(update.shape)


class _Kernels(_Layers):
    """All on the kernels."""

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


def _compose(input: Tensor, embedding: tuple[Tensor, Tensor], weight: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """([input, 1], [E W; b W]), whose product is that of input E + b and W; both are padded to `columns`. The weight is
    not rounded before it is read."""
    before, bias = embedding
    rows = torch.cat([reference.widen(before.to(input.dtype)), reference.widen(bias)], dim=1)
    joined = torch.bmm(rows, reference.widen(weight.to(input.dtype)))
    missing = columns - rows.shape[1]
    return pad(input, (0, 1 + missing), value=1.0), pad(joined, (0, 0, 0, missing)) if missing else joined


def _encode(mask: _Maybe, reset: _Maybe) -> _Maybe:
    """One byte a step, MASKED | RESET, with three dimensions of the full size or 1."""
    codes: _Maybe = None
    if mask is not None:
        codes = (~mask).to(torch.uint8) * MASKED
    if reset is not None:
        bits = reset.to(torch.uint8) * RESET
        codes = bits if codes is None else codes | bits
    return None if codes is None else codes[(None,) * (3 - codes.dim())]


def _decode(codes: _Maybe) -> tuple[_Maybe, _Maybe]:
    return (None, None) if codes is None else ((codes & MASKED) == 0, (codes & RESET) != 0)


def _min_gru(launchers: Callable[[], Any], need_h: bool) -> Callable[..., tuple[Tensor, ...]]:
    """A minLSTM is a minGRU with another gate: here it is the space "lstm"."""

    def launch(x: Tensor, weight: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
        module = launchers()
        function = module.min_lstm_forward if space == "lstm" else module.min_gru_forward
        options = {"space": space} if space == "log" else {}
        h, h_last = function(x, weight, h0, codes, need_h=need_h, **options)
        return (h, h_last) if need_h else (h_last,)

    return launch


def _min_gru_backward(launchers: Callable[[], Any]) -> Callable[..., tuple[_Maybe, _Maybe, _Maybe]]:
    def launch_backward(
        x: Tensor,
        weight: Tensor,
        h0: _Maybe,
        h: _Maybe,
        codes: _Maybe,
        dh: _Maybe,
        dh_last: _Maybe,
        space: str,
        needs: _Needs,
    ) -> tuple[_Maybe, _Maybe, _Maybe]:
        assert h is not None
        grads: tuple[_Maybe, _Maybe, _Maybe]
        module = launchers()
        launch = module.min_lstm_backward if space == "lstm" else module.min_gru_backward
        grads = launch(x, weight, h0, h, codes, dh, dh_last, needs=needs)
        return grads

    return launch_backward


def _min_gru_last_backward(launchers: Callable[[], Any]) -> Callable[..., tuple[_Maybe, _Maybe, _Maybe]]:
    """That of the last state alone makes h again. `_Layers.min_gru` takes the other operator where it sees that a
    gradient may be asked."""
    launch, backward = _min_gru(launchers, need_h=True), _min_gru_backward(launchers)

    def launch_backward(
        x: Tensor,
        weight: Tensor,
        h0: _Maybe,
        unread: _Maybe,
        codes: _Maybe,
        dh_last: _Maybe,
        unused: _Maybe,
        space: str,
        needs: _Needs,
    ) -> tuple[_Maybe, _Maybe, _Maybe]:
        h, _ = launch(x, weight, h0, codes, space)
        return backward(x, weight, h0, h, codes, None, dh_last, space, needs)

    return launch_backward


def _fake_min_gru(x: Tensor, weight: Tensor, h0: _Maybe, space: str) -> tuple[Tensor, ...]:
    terms, batch, seq, _ = x.shape
    hidden = weight.shape[2] // (3 if space == "lstm" else 2)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(terms, batch, seq, hidden), x.new_empty(terms, batch, 1, hidden, dtype=wide)


def _twin_min_gru(x: Tensor, weight: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    if space == "lstm":
        return reference.min_lstm(x, weight, h0, *_decode(codes))
    return reference.min_gru(x, weight, h0, *_decode(codes), "linear")


def _launch_scan(a: Tensor, b: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    return (_kernels().scan_forward(a, b, h0, log=space == "log"),)


def _launch_scan_backward(
    a: Tensor,
    b: Tensor,
    h0: _Maybe,
    h: _Maybe,
    codes: _Maybe,
    dh: _Maybe,
    dh_last: _Maybe,
    space: str,
    needs: _Needs,
) -> tuple[_Maybe, _Maybe, _Maybe]:
    assert h is not None and dh is not None
    log = space == "log"
    # the linear form's gradients need the values nowhere
    return _kernels().scan_backward(a, b if log else None, h0, h, dh, log=log, needs=needs)


def _twin_scan(a: Tensor, b: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    return ((reference.log_scan if space == "log" else reference.linear_scan)(a, b, h0),)


def _activation(option: str) -> str | None:
    return None if option == "none" else option


def _linear(launchers: Callable[[], Any]) -> Callable[..., tuple[Tensor, ...]]:
    def launch(x: Tensor, weight: Tensor, bias: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
        return (launchers().grouped_linear_forward(x, weight, bias, _activation(option)),)

    return launch


def _linear_backward(launchers: Callable[[], Any]) -> Callable[..., tuple[_Maybe, _Maybe, _Maybe]]:
    def launch_backward(
        x: Tensor,
        weight: Tensor,
        bias: _Maybe,
        y: _Maybe,
        codes: _Maybe,
        dy: _Maybe,
        unused: _Maybe,
        option: str,
        needs: _Needs,
    ) -> tuple[_Maybe, _Maybe, _Maybe]:
        assert dy is not None
        need_x, need_weight, need_bias = needs
        grads: tuple[_Maybe, _Maybe, _Maybe]
        grads = launchers().grouped_linear_backward(
            x, weight, bias, dy, _activation(option), need_x=need_x, need_weight=need_weight, need_bias=need_bias
        )
        return grads

    return launch_backward


def _fake_linear(x: Tensor, weight: Tensor, bias: _Maybe, option: str) -> tuple[Tensor, ...]:
    return (x.new_empty(*x.shape[:2], weight.shape[2]),)


def _twin_linear(x: Tensor, weight: Tensor, bias: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    return (reference.grouped_linear(x, weight, bias, _activation(option)),)


def _launch_feed_forward(launchers: Callable[[], Any]) -> Callable[..., tuple[Tensor, ...]]:
    def launch(x: Tensor, params: Tensor, h: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
        return (launchers().feed_forward_forward(x, params, h),)

    return launch


def _feed_forward_backward(launchers: Callable[[], Any]) -> Callable[..., tuple[_Maybe, _Maybe, _Maybe]]:
    def launch_backward(
        x: Tensor,
        params: Tensor,
        h: _Maybe,
        y: _Maybe,
        codes: _Maybe,
        dy: _Maybe,
        unused: _Maybe,
        option: str,
        needs: _Needs,
    ) -> tuple[_Maybe, _Maybe, _Maybe]:
        grads: tuple[_Maybe, _Maybe, _Maybe] = launchers().feed_forward_backward(x, params, h, dy, needs=needs)
        return grads

    return launch_backward


def _twin_feed_forward(x: Tensor, params: Tensor, h: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    assert h is not None
    norm_weight, norm_bias, weight1, bias1, weight2, bias2, *rest = unpack(params, h.shape[2])
    embedding = (rest[0], rest[1]) if rest else None
    return (reference.feed_forward(x, h, norm_weight, norm_bias, weight1, bias1, weight2, bias2, embedding),)


def _fake_feed_forward(x: Tensor, params: Tensor, h: _Maybe, option: str) -> tuple[Tensor, ...]:
    assert h is not None
    return (torch.empty_like(h, memory_format=torch.contiguous_format),)


_MIN_GRU = Operator(
    name="min_gru",
    outputs=2,
    launch=_min_gru(_kernels, need_h=True),
    launch_backward=_min_gru_backward(_kernels),
    fake=_fake_min_gru,
    twin=_twin_min_gru,
    joins_terms=True,
)
_MIN_GRU_LAST = Operator(
    name="min_gru_last",
    outputs=1,
    launch=_min_gru(_kernels, need_h=False),
    launch_backward=_min_gru_last_backward(_kernels),
    fake=lambda *given: _fake_min_gru(*given)[1:],
    twin=lambda *given: _twin_min_gru(*given)[1:],
    joins_terms=True,
    reads_output=False,
)
_GROUPED_LINEAR = Operator(
    name="grouped_linear",
    outputs=1,
    launch=_linear(_kernels),
    launch_backward=_linear_backward(_kernels),
    fake=_fake_linear,
    twin=_twin_linear,
    joins_terms=True,
    reads_output=False,
)
_SCAN = Operator(
    name="scan",
    outputs=1,
    launch=_launch_scan,
    launch_backward=_launch_scan_backward,
    fake=lambda a, b, h0, option: (torch.empty_like(b, memory_format=torch.contiguous_format),),
    twin=_twin_scan,
    joins_terms=False,
)
_FEED_FORWARD = Operator(
    name="feed_forward",
    outputs=1,
    launch=_launch_feed_forward(_kernels),
    launch_backward=_feed_forward_backward(_kernels),
    fake=_fake_feed_forward,
    twin=_twin_feed_forward,
    joins_terms=True,
    reads_output=False,
)
KERNELS = _Kernels(_MIN_GRU, _MIN_GRU_LAST, _GROUPED_LINEAR, _FEED_FORWARD, _kernels)
BLOCKS = _Blocks(
    replace(
        _MIN_GRU,
        name="blocked_min_gru",
        launch=_min_gru(_blocks, need_h=True),
        launch_backward=_min_gru_backward(_blocks),
    ),
    replace(
        _MIN_GRU_LAST,
        name="blocked_min_gru_last",
        launch=_min_gru(_blocks, need_h=False),
        launch_backward=_min_gru_last_backward(_blocks),
    ),
    replace(
        _GROUPED_LINEAR,
        name="blocked_linear",
        launch=_linear(_blocks),
        launch_backward=_linear_backward(_blocks),
    ),
    replace(
        _FEED_FORWARD,
        name="blocked_feed_forward",
        launch=_launch_feed_forward(_blocks),
        launch_backward=_feed_forward_backward(_blocks),
    ),
    _blocks,
)

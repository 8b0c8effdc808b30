"""The launchers of `rnam.kernels` and `rnam.blocked` in the form that an `Operator` takes, and the reference's
functions as their twins. None of it knows autograd.

Triton and the kernels are imported at the first launch, so that `import rnam` needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from rnam import blocked, reference
from rnam.blocked.feed_forward import unpack
from rnam.blocked.plan import MASKED, RESET  # as the kernels read them too

_Maybe = Tensor | None
_Needs = tuple[bool, bool, bool]
_Gradients = tuple[_Maybe, _Maybe, _Maybe]


class _Call(NamedTuple):
    """A recurrence call as the kernels' launchers read it."""

    input: Tensor
    weight: Tensor
    h0: _Maybe
    flags: _Maybe
    space: str = "linear"
    need_h: bool = True


def kernels() -> Any:
    import rnam.kernels as kernels

    return kernels


def blocks() -> Any:
    return blocked


def encode(mask: _Maybe, reset: _Maybe) -> _Maybe:
    """One byte a step, MASKED | RESET, with three dimensions of the full size or 1."""
    codes: _Maybe = None
    if mask is not None:
        codes = (~mask).to(torch.uint8) * MASKED
    if reset is not None:
        bits = reset.to(torch.uint8) * RESET
        codes = bits if codes is None else codes | bits
    return None if codes is None else codes[(None,) * (3 - codes.dim())]


def decode(codes: _Maybe) -> tuple[_Maybe, _Maybe]:
    return (None, None) if codes is None else ((codes & MASKED) == 0, (codes & RESET) != 0)


def min_gru(launchers: Callable[[], Any], need_h: bool) -> Callable[..., tuple[Tensor, ...]]:
    """A minLSTM is a minGRU with another gate: here it is the space "lstm"."""

    def launch(x: Tensor, weight: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
        module = launchers()
        if module is not blocked:
            call = _Call(x, weight, h0, codes, "log" if space == "log" else "linear", need_h)
            h, h_last = module.recurrence_forward(call, module.MIN_LSTM if space == "lstm" else module.MIN_GRU)
            return (h, h_last) if need_h else (h_last,)
        function = module.min_lstm_forward if space == "lstm" else module.min_gru_forward
        options = {"space": space} if space == "log" else {}
        h, h_last = function(x, weight, h0, codes, need_h=need_h, **options)
        return (h, h_last) if need_h else (h_last,)

    return launch


def min_gru_backward(launchers: Callable[[], Any]) -> Callable[..., _Gradients]:
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
    ) -> _Gradients:
        assert h is not None
        grads: _Gradients
        module = launchers()
        if module is not blocked:
            gates = module.MIN_LSTM if space == "lstm" else module.MIN_GRU
            grads = module.recurrence_backward(_Call(x, weight, h0, codes), gates, h, dh, dh_last, needs=needs)
            return grads
        launch = module.min_lstm_backward if space == "lstm" else module.min_gru_backward
        grads = launch(x, weight, h0, h, codes, dh, dh_last, needs=needs)
        return grads

    return launch_backward


def min_gru_last_backward(launchers: Callable[[], Any]) -> Callable[..., _Gradients]:
    """That of the last state alone makes h again. `_Layers.min_gru` takes the other operator where it sees that a
    gradient may be asked."""
    launch, backward = min_gru(launchers, need_h=True), min_gru_backward(launchers)

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
    ) -> _Gradients:
        h, _ = launch(x, weight, h0, codes, space)
        return backward(x, weight, h0, h, codes, None, dh_last, space, needs)

    return launch_backward


def fake_min_gru(x: Tensor, weight: Tensor, h0: _Maybe, space: str) -> tuple[Tensor, ...]:
    terms, batch, seq, _ = x.shape
    hidden = weight.shape[2] // (3 if space == "lstm" else 2)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return x.new_empty(terms, batch, seq, hidden), x.new_empty(terms, batch, 1, hidden, dtype=wide)


def twin_min_gru(x: Tensor, weight: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    if space == "lstm":
        return reference.min_lstm(x, weight, h0, *decode(codes))
    return reference.min_gru(x, weight, h0, *decode(codes), "linear")


def parts_of_projected(packed: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The weight of a minGRU [F, D, 2H] and that of its output [F, H, D], as views."""
    hidden = packed.shape[1] // (3 * dim)
    weight, out_weight = packed.tensor_split([2 * dim * hidden], dim=1)
    return torch.unflatten(weight, 1, (dim, 2 * hidden)), torch.unflatten(out_weight, 1, (hidden, dim))


def projected(x: Tensor, packed: Tensor, h0: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    weight, out_weight = parts_of_projected(packed, x.shape[3])
    y, h_last = kernels().projected_forward(_Call(x, weight, h0, codes), out_weight)
    return y, h_last


def projected_backward(
    x: Tensor,
    packed: Tensor,
    h0: _Maybe,
    y: _Maybe,
    codes: _Maybe,
    dy: _Maybe,
    dh_last: _Maybe,
    option: str,
    needs: _Needs,
) -> _Gradients:
    """That of the two layers, with h computed again."""
    weight, out_weight = parts_of_projected(packed, x.shape[3])
    h, _ = min_gru(kernels, need_h=True)(x, weight, h0, codes, "linear")
    dh, dout = None, torch.zeros_like(out_weight)
    if dy is not None:
        rows = h.flatten(1, 2), out_weight, None, None, dy.flatten(1, 2)
        dh, dout, _ = kernels().grouped_linear_backward(*rows, needs=(True, needs[1], False))
        dh = dh.view(h.shape)
    dx, dweight, dh0 = min_gru_backward(kernels)(x, weight, h0, h, codes, dh, dh_last, "linear", needs)
    of_packed = None if dweight is None else torch.cat([dweight.flatten(1), dout.flatten(1)], dim=1)
    return dx, of_packed, dh0


def fake_projected(x: Tensor, packed: Tensor, h0: _Maybe, option: str) -> tuple[Tensor, ...]:
    _, h_last = fake_min_gru(x, parts_of_projected(packed, x.shape[3])[0], h0, "linear")
    return torch.empty_like(x, memory_format=torch.contiguous_format), h_last


def twin_projected(x: Tensor, packed: Tensor, h0: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    return reference.min_gru_projected(x, *parts_of_projected(packed, x.shape[3]), h0, *decode(codes))


def scan(a: Tensor, b: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    return (kernels().scan_forward(a, b, h0, log=space == "log"),)


def scan_backward(
    a: Tensor,
    b: Tensor,
    h0: _Maybe,
    h: _Maybe,
    codes: _Maybe,
    dh: _Maybe,
    dh_last: _Maybe,
    space: str,
    needs: _Needs,
) -> _Gradients:
    assert h is not None and dh is not None
    log = space == "log"
    # the linear form's gradients need the values nowhere
    grads: _Gradients = kernels().scan_backward(a, b if log else None, h0, h, dh, log=log, needs=needs)
    return grads


def twin_scan(a: Tensor, b: Tensor, h0: _Maybe, codes: _Maybe, space: str) -> tuple[Tensor, ...]:
    return ((reference.log_scan if space == "log" else reference.linear_scan)(a, b, h0),)


def _activation(option: str) -> str | None:
    return None if option == "none" else option


def linear(launchers: Callable[[], Any]) -> Callable[..., tuple[Tensor, ...]]:
    def launch(x: Tensor, weight: Tensor, bias: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
        return (launchers().grouped_linear_forward(x, weight, bias, _activation(option)),)

    return launch


def linear_backward(launchers: Callable[[], Any]) -> Callable[..., _Gradients]:
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
    ) -> _Gradients:
        assert dy is not None
        need_x, need_weight, need_bias = needs
        grads: _Gradients
        if launchers() is not blocked:
            grads = kernels().grouped_linear_backward(x, weight, bias, _activation(option), dy, needs=needs)
            return grads
        grads = launchers().grouped_linear_backward(
            x, weight, bias, dy, _activation(option), need_x=need_x, need_weight=need_weight, need_bias=need_bias
        )
        return grads

    return launch_backward


def fake_linear(x: Tensor, weight: Tensor, bias: _Maybe, option: str) -> tuple[Tensor, ...]:
    return (x.new_empty(*x.shape[:2], weight.shape[2]),)


def twin_linear(x: Tensor, weight: Tensor, bias: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    return (reference.grouped_linear(x, weight, bias, _activation(option)),)


def feed_forward(launchers: Callable[[], Any]) -> Callable[..., tuple[Tensor, ...]]:
    def launch(x: Tensor, params: Tensor, h: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
        return (launchers().feed_forward_forward(x, params, h),)

    return launch


def feed_forward_backward(launchers: Callable[[], Any]) -> Callable[..., _Gradients]:
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
    ) -> _Gradients:
        grads: _Gradients = launchers().feed_forward_backward(x, params, h, dy, needs=needs)
        return grads

    return launch_backward


def twin_feed_forward(x: Tensor, params: Tensor, h: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    assert h is not None
    norm_weight, norm_bias, weight1, bias1, weight2, bias2, *rest = unpack(params, h.shape[2])
    embedding = (rest[0], rest[1]) if rest else None
    return (reference.feed_forward(x, h, norm_weight, norm_bias, weight1, bias1, weight2, bias2, embedding),)


def fake_feed_forward(x: Tensor, params: Tensor, h: _Maybe, option: str) -> tuple[Tensor, ...]:
    assert h is not None
    return (torch.empty_like(h, memory_format=torch.contiguous_format),)


def parts_of_block(x: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
    """The weight of a block's minGRU and the parameters of its feed-forward, views of packed (terms, rows, dim): for x
    as wide as the block 2 dim rows of a weight, for rows to be embedded 2 for each number and 2 for the bias."""
    width, dim = x.shape[3], packed.shape[2]
    inputs = dim if width == dim else width + 1
    return packed[:, : 2 * inputs].reshape(-1, inputs, 2 * dim), packed[:, 2 * inputs :].flatten(1)


def block(x: Tensor, packed: Tensor, h0: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    """The states are the third output with the option "h"; else it is empty."""
    weight, params = parts_of_block(x, packed)
    y, h, h_last = kernels().block_forward(_Call(x, weight, h0, codes, need_h=option == "h"), params)
    return y, h_last, x.new_empty(0) if h is None else h


def block_backward(
    x: Tensor,
    packed: Tensor,
    h0: _Maybe,
    h: _Maybe,
    codes: _Maybe,
    dy: _Maybe,
    dh_last: _Maybe,
    option: str,
    needs: _Needs,
) -> _Gradients:
    """Where h was not kept it is computed again."""
    weight, params = parts_of_block(x, packed)
    call = _Call(x, weight, h0, codes)
    if option != "h":
        _, h, _ = kernels().block_forward(call, params)
    dx, dpacked, dh0 = kernels().block_backward(call, params, h, dy, dh_last, needs=needs)
    return dx, None if dpacked is None else dpacked.view(packed.shape), dh0


def fake_block(x: Tensor, packed: Tensor, h0: _Maybe, option: str) -> tuple[Tensor, ...]:
    h, h_last = fake_min_gru(x, x.new_empty(0, 0, 2 * packed.shape[2]), h0, "linear")
    return torch.empty_like(h), h_last, h if option == "h" else x.new_empty(0)


def twin_block(x: Tensor, packed: Tensor, h0: _Maybe, codes: _Maybe, option: str) -> tuple[Tensor, ...]:
    weight, params = parts_of_block(x, packed)
    columns = x if weight.shape[1] == x.shape[3] else pad(x, (0, 1), value=1.0)
    h, h_last = twin_min_gru(columns, weight, h0, codes, "linear")
    (y,) = twin_feed_forward(x.flatten(1, 2), params, h.flatten(1, 2), None, option)
    return y.view(h.shape), h_last

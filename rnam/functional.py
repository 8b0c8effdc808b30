"""The functions behind the layers: arguments are checked here, then the work is done by a backend.

terms     independent networks, one per feature; the first dimension of every tensor of a layer
batch     rows (people, series); seq: steps in time; dim, hidden: widths
states    (terms, batch, 1, hidden), so that they concatenate with a sequence along seq

float32, float64, bfloat16 and float16. For the last two, sums, gates and states are float32. The reference rounds once,
at the end; elsewhere what enters a second product is rounded too (in feed_forward the normalised rows and the hidden
layer), and the kernels round u and k of a min_gru too wide to be fused, which must then be within the dtype's range.
Every function is differentiable in every floating argument, twice. Under torch.autocast `input` is
cast as torch.nn.functional.linear casts it, and a float32 weight is rounded to it; a bias is not rounded.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from rnam import _arguments, _checks
from rnam.backends import block, linear, projected, scan
from rnam.backends import feed_forward as residual
from rnam.backends import min_gru as recurrent
from rnam.backends.calls import Embedding, FeedForward, Recurrence

__all__ = [
    "feed_forward",
    "grouped_linear",
    "linear_scan",
    "log_scan",
    "min_gru",
    "min_gru_block",
    "min_gru_projected",
    "min_lstm",
]

Activation = Literal["relu", "gelu", "silu"]
ACTIVATIONS: tuple[Activation | None, ...] = (None, *get_args(Activation))


def grouped_linear(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Activation | None = None,
    *,
    out: Tensor | None = None,
) -> Tensor:
    """One linear layer per term: activation(input[f] @ weight[f] + bias[f]), torch.nn.functional.linear's
    formula for each term f.

    Args:
        input: (terms, *, in_dim) with one or more middle dimensions, each of which may be 0.
        weight: (terms, in_dim, out_dim), the dtype of input. This is the transpose, per term, of
            torch.nn.Linear's weight.
        bias: (terms, 1, out_dim) or None.
        activation: None, "relu", "gelu" (the exact one, with erf) or "silu", applied before rounding.
        out: where to write the result, of its shape, dtype and device; None is new memory. Writing into old memory
            saves its first touch, which on a CPU takes as long as a small product. It must not overlap an argument.

    Returns:
        (terms, *, out_dim), the dtype of input; `out` where that is given.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes differ.
        ValueError: a shape, a device or the activation does not fit; `out` overlaps an argument, or itself.
        RuntimeError: `out` is given where a gradient is recorded, as in torch.

    Example:
        >>> weight, bias = torch.randn(3, 4, 5), torch.zeros(3, 1, 5)
        >>> grouped_linear(torch.randn(3, 8, 10, 4), weight, bias, "relu").shape
        torch.Size([3, 8, 10, 5])
    """
    _checks.floating("input", input)
    if input.dim() < 3:
        raise ValueError(f"input must have shape (terms, *, in_dim), got {tuple(input.shape)}")
    _arguments.weights(weight, input, "terms, in_dim, out_dim")
    if bias is not None:
        _checks.floating("bias", bias)
        _checks.shape("bias", bias, "terms, 1, out_dim", (weight.shape[0], 1, weight.shape[2]))
        _checks.device("bias", bias, "input", input)
    _checks.one_of("activation", activation, ACTIVATIONS)
    cast = _arguments.autocast_enabled(input)
    if cast:
        input = _arguments.autocast(input)
    _arguments.parameter_dtype("weight", weight, input, cast)
    if bias is not None:
        _arguments.parameter_dtype("bias", bias, input, cast)
    if out is not None:
        _arguments.output(out, input, weight, bias)
    with _arguments.without_autocast(input, cast):
        return linear.grouped_linear(input, weight, bias, activation, out)


def feed_forward(
    input: Tensor,
    update: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    embedding: Embedding | None = None,
) -> Tensor:
    """What follows a recurrent layer in a residual block: LayerNorm, Linear, ReLU, Linear and both residuals.

        n = (r - mean r) / sqrt(var r + 1e-5) * norm_weight + norm_bias,  r = x + update
        output = x + relu(n @ weight1[f] + bias1[f]) @ weight2[f] + bias2[f]

    x is the input, or input @ embedding[0][f] + embedding[1][f]. mean and var are those of a row of dim numbers, as in
    torch.nn.LayerNorm (arXiv 1607.06450).

    Args:
        input: (terms, *, dim) with one or more middle dimensions, each of which may be 0; (terms, *, in_dim) with
            `embedding`.
        update: what the layer gave, (terms, *, dim).
        norm_weight, norm_bias: (dim,), shared by the terms.
        weight1, weight2: (terms, dim, dim), laid out as those of `grouped_linear`.
        bias1, bias2: (terms, 1, dim).
        embedding: None, or the weight (terms, in_dim, dim) and the bias (terms, 1, dim) of a linear layer that the
            input goes through first. Where it is narrow, `keeps_embedding`, its output is never in memory.
        All of the dtype of input.

    Returns:
        (terms, *, dim), the dtype of input.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes differ.
        ValueError: a shape or a device does not fit.

    Example:
        >>> x, h = torch.randn(3, 8, 10, 4), torch.randn(3, 8, 10, 4)
        >>> weight, bias = torch.randn(3, 4, 4), torch.zeros(3, 1, 4)
        >>> feed_forward(x, h, torch.ones(4), torch.zeros(4), weight, bias, weight, bias).shape
        torch.Size([3, 8, 10, 4])
    """
    _checks.floating("input", input)
    if input.dim() < 3:
        raise ValueError(f"input must have shape (terms, *, dim), got {tuple(input.shape)}")
    dim = _arguments.embedded_width(embedding, input)
    _checks.floating("update", update)
    _checks.shape("update", update, "terms, *, dim of input", (*input.shape[:-1], dim))
    _checks.device("update", update, "input", input)
    cast = _arguments.autocast_enabled(input)
    if cast:
        input, update = _arguments.autocast(input), _arguments.autocast(update)
    _checks.dtype("update", update, "input", input)
    parameters = FeedForward(norm_weight, norm_bias, weight1, bias1, weight2, bias2)
    _arguments.feed_forward(parameters, input, dim, cast)
    if embedding is not None:
        _arguments.embedding_dtypes(embedding, input, cast)
    with _arguments.without_autocast(input, cast):
        return residual.feed_forward(input, update, parameters, embedding)


def keeps_embedding(input: Tensor, weight: Tensor) -> bool:
    """Whether functions of input (terms, *, in_dim) are better given an embedding of this weight (terms, in_dim, dim)
    than what comes out of it: that is much wider, and the backend makes it inside its kernels or blocks."""
    return residual.keeps_embedding(input, *weight.shape[1:])


def min_gru(
    input: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    space: Literal["linear", "log"] = "linear",
    need_h: bool = True,
    embedding: Embedding | None = None,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One minGRU per term (arXiv 2410.01201, appendix B): projection, gates and scan.

        u, k = input[f] @ weight[f], cut in two        z_t = sigmoid(k_t), v_t = g(u_t)
        h_t = (1 - z_t) h_{t-1} + z_t v_t              g(u) = u + 1/2 if u >= 0 else sigmoid(u)

    g has slope 1 at u = 0. The same numbers come from one step, from chunks that hand on h_last and from
    the whole sequence, to rounding.

    Args:
        input: (terms, batch, seq, dim); batch and seq may be 0.
        weight: (terms, dim, 2 * hidden), the hidden half first, the dtype of input.
        h0: the state before the first step, (terms, batch, 1, hidden), float32 or the dtype of input.
            None is 0. It may be zero or negative.
        mask: bool, broadcastable to (terms, batch, seq), True = observed. At a masked step the state
            stays exactly as it is whatever the input holds there, NaN included; the input's gradient is
            exactly 0 there and the weight gets none from it.
        reset: bool, broadcastable to (terms, batch, seq). Where True, the state before that step is 0, at
            the first step too (h0 is then ignored, whatever it holds, and gets no gradient). A reset acts
            before a mask: both at one step give 0. Finite states never cross a reset, nor do gradients
            whose product with the state is finite; infinities and NaN may cross.
        space: "linear" evaluates the recurrence as it stands. "log" evaluates the published log-space
            scan (arXiv 2311.06281) in a form whose error does not grow with the length, but with
            |log h|: at h0 = 1e30 it is 25 times that of "linear". There a negative h0 gives NaN, up to
            the end of the sequence. Both are the same function with the same derivatives, and differ by
            rounding.
        need_h: False where h_last is all that is read: without a gradient to come, h is then never written.
        embedding: None, or the weight (terms, in_dim, dim) and the bias (terms, 1, dim) of a linear layer that the
            input (terms, batch, seq, in_dim) goes through first. Its output is never in memory: with E and b these,
            (input E + b) weight = [input, 1] [E weight; b weight]. Of the dtype of input.
        bias: (terms, 1, 2 * hidden), laid out as the columns of weight and added to u and k, of the dtype of input.
            None is 0. It says how long the memory lasts where the input is 0, see `rnam.minGRU`.
        elapsed: the time since the step before, broadcastable to (terms, batch, seq), float32 or the dtype of input,
            at least 0; it may need a gradient. None is 1 everywhere, the recurrence of the paper. Then

                1 - z_t = exp(-elapsed_t softplus(k_t))

            which solves h' = softplus(k) (g(u) - h) over that time, with u and k held: give as input what held since
            the step before. Two steps with the same input are as one of both times. 0 keeps the state exactly as it
            is, whatever u and k are; inf forgets it, with a gradient of 0 in k and elapsed. It is not read at a masked
            step. Values are never looked at: a negative time runs the state away from g(u), which may overflow, and
            gives NaN in the space "log". The continuous form is ours, not the paper's.

    Returns:
        h: (terms, batch, seq, hidden), the dtype of input; with need_h=False (terms, batch, 0, hidden).
        h_last: (terms, batch, 1, hidden), the state after the last step, h0 (or 0) where seq = 0. A tensor
            of its own; float32 for bfloat16 and float16 inputs, before rounding.

    Raises:
        TypeError: an argument is no tensor of a legal dtype, or the dtypes do not go together.
        ValueError: a shape, a device or the space does not fit. Values are never looked at.

    Example:
        >>> input, weight = torch.randn(3, 8, 10, 4), torch.randn(3, 4, 2 * 5)
        >>> h, h_last = min_gru(input, weight)
        >>> h.shape, h_last.shape
        (torch.Size([3, 8, 10, 5]), torch.Size([3, 8, 1, 5]))
        >>> days = torch.rand(8, 10)  # since the step before, for every term alike
        >>> h, h_last = min_gru(input, weight, elapsed=days)
    """
    _checks.tensor("weight", weight)
    call = Recurrence(
        input, weight, h0, elapsed, cell="mingru", space=space, need_h=need_h, embedding=embedding, bias=bias
    )
    return recurrence(call, mask, reset)


def min_lstm(
    input: Tensor,
    weight: Tensor,
    h0: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    need_h: bool = True,
    embedding: Embedding | None = None,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One minLSTM per term (arXiv 2410.01201, section 3.2): projection, normalised gates and scan.

        u, k_f, k_i = input[f] @ weight[f], cut in three     f_t = sigmoid(k_f), i_t = sigmoid(k_i), v_t = g(u_t)
        h_t = (f_t h_{t-1} + i_t v_t) / (f_t + i_t)          g(u) = u + 1/2 if u >= 0 else sigmoid(u)

    It is the minGRU with the gate z = i / (f + i) = sigmoid(log i - log f), which stays exact where both gates
    vanish. Where k_f = k_i = -inf the formula is 0 / 0, and h is NaN.

    Args:
        input: (terms, batch, seq, dim); batch and seq may be 0.
        weight: (terms, dim, 3 * hidden), the hidden, the forget and the input third, the dtype of input.
        h0, mask, reset, need_h, embedding: as in `min_gru`.
        bias: (terms, 1, 3 * hidden), as in `min_gru`.
        elapsed: as in `min_gru`, where it is the exponent of 1 - z: of f / (f + i), the normalised forget gate.

    Returns:
        h, h_last: as in `min_gru`.

    Raises:
        TypeError, ValueError: as `min_gru`.

    Example:
        >>> h, h_last = min_lstm(torch.randn(3, 8, 10, 4), torch.randn(3, 4, 15))
        >>> h.shape, h_last.shape
        (torch.Size([3, 8, 10, 5]), torch.Size([3, 8, 1, 5]))
    """
    _checks.tensor("weight", weight)
    call = Recurrence(input, weight, h0, elapsed, cell="minlstm", need_h=need_h, embedding=embedding, bias=bias)
    return recurrence(call, mask, reset)


def recurrence(
    call: Recurrence, mask: Tensor | None, reset: Tensor | None, h0_name: str = "h0"
) -> tuple[Tensor, Tensor]:
    """Any cell of the table in `rnam.backends.cells`: the function behind `min_gru`, `min_lstm` and their modules.

    Args:
        call: without flags, which are made of mask and reset.
        mask, reset: as in `min_gru`.
        h0_name: the name of h0 in errors.
    """
    call, cast = _arguments.recurrence(call, mask, reset, h0_name)
    if not cast:  # a context takes half a microsecond
        return recurrent.recurrence(call)
    with _arguments.without_autocast(call.input, cast):
        return recurrent.recurrence(call)


def min_gru_block(
    input: Tensor,
    weight: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    h0: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    embedding: Embedding | None = None,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A residual block of `rnam.RNAM`: `min_gru`, then `feed_forward` of its input and its states.

        h, h_last = min_gru(input, weight, h0, mask=mask, reset=reset, bias=bias, elapsed=elapsed)
        output = feed_forward(input, h, norm_weight, norm_bias, weight1, bias1, weight2, bias2)

    Where the kernels compute, a block up to 32 wide is one kernel, which does not round h and writes it only where a
    gradient is recorded; the backward of one up to 16 wide is one too (see kernels/README.md). In half precision with
    an embedding and a bias it is the two calls above, since one kernel would round the bias.

    Args:
        input: (terms, batch, seq, dim), or (terms, batch, seq, in_dim) with `embedding`; batch and seq may be 0. At a
            masked step it does not reach the state, but it does reach the output there.
        weight: (terms, dim, 2 * dim), as that of `min_gru` with hidden = dim.
        norm_weight, norm_bias, weight1, bias1, weight2, bias2: as in `feed_forward`.
        h0, mask, reset, bias, elapsed: as in `min_gru`.
        embedding: None, or the weight and the bias of a linear layer that the input goes through first, for both, as
            in `feed_forward`.

    Returns:
        output: (terms, batch, seq, dim), the dtype of input.
        h_last: (terms, batch, 1, dim), as that of `min_gru`.

    Raises:
        TypeError, ValueError: as `min_gru` and `feed_forward`.

    Example:
        >>> x, weight = torch.randn(3, 8, 10, 4), torch.randn(3, 4, 8)
        >>> square, bias = torch.randn(3, 4, 4), torch.zeros(3, 1, 4)
        >>> output, h_last = min_gru_block(x, weight, torch.ones(4), torch.zeros(4), square, bias, square, bias)
        >>> output.shape, h_last.shape
        (torch.Size([3, 8, 10, 4]), torch.Size([3, 8, 1, 4]))
    """
    _checks.tensor("weight", weight)
    call = Recurrence(input, weight, h0, elapsed, embedding=embedding, bias=bias)
    call, cast = _arguments.recurrence(call, mask, reset)
    terms, dim, _ = weight.shape
    _checks.shape("weight", weight, "terms, dim, 2 * dim", (terms, dim, 2 * dim))
    parameters = FeedForward(norm_weight, norm_bias, weight1, bias1, weight2, bias2)
    _arguments.feed_forward(parameters, call.input, dim, cast)
    with _arguments.without_autocast(call.input, cast):
        return block.block(call, parameters)


def min_gru_projected(
    input: Tensor,
    weight: Tensor,
    out_weight: Tensor,
    h0: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    bias: Tensor | None = None,
    elapsed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What `rnam.minGRU` with an expansion factor computes: `min_gru`, then a linear layer back to the width of the
    input.

        h, h_last = min_gru(input, weight, h0, mask=mask, reset=reset, bias=bias, elapsed=elapsed)
        output = grouped_linear(h, out_weight)

    Where no gradient is recorded and the kernels compute, both are one kernel up to the widths of kernels/README.md,
    and h is in no memory. In half precision h is rounded before the product, as it is by two.

    Args:
        input: (terms, batch, seq, dim); batch and seq may be 0.
        weight: (terms, dim, 2 * hidden), as that of `min_gru`.
        out_weight: (terms, hidden, dim), the dtype of input.
        h0, mask, reset, bias, elapsed: as in `min_gru`.

    Returns:
        output: (terms, batch, seq, dim), the dtype of input.
        h_last: (terms, batch, 1, hidden), as that of `min_gru`.

    Raises:
        TypeError, ValueError: as `min_gru`.

    Example:
        >>> x, weight, out_weight = torch.randn(3, 8, 10, 4), torch.randn(3, 4, 16), torch.randn(3, 8, 4)
        >>> output, h_last = min_gru_projected(x, weight, out_weight)
        >>> output.shape, h_last.shape
        (torch.Size([3, 8, 10, 4]), torch.Size([3, 8, 1, 8]))
    """
    _checks.tensor("weight", weight)
    return recurrence_projected(Recurrence(input, weight, h0, elapsed, bias=bias), out_weight, mask, reset)


def recurrence_projected(
    call: Recurrence, out_weight: Tensor, mask: Tensor | None, reset: Tensor | None, h0_name: str = "h0"
) -> tuple[Tensor, Tensor]:
    """The function behind `min_gru_projected` and `rnam.minGRU`; the arguments are those of `recurrence`."""
    call, cast = _arguments.recurrence(call, mask, reset, h0_name)
    assert call.weight is not None
    terms, dim, columns = call.weight.shape
    _checks.floating("out_weight", out_weight)
    _checks.shape("out_weight", out_weight, "terms, hidden, dim", (terms, columns // 2, dim))
    _checks.device("out_weight", out_weight, "input", call.input)
    _arguments.parameter_dtype("out_weight", out_weight, call.input, cast)
    with _arguments.without_autocast(call.input, cast):
        return projected.projected(call, out_weight)


def linear_scan(coeffs: Tensor, values: Tensor, h0: Tensor | None = None) -> Tensor:
    """h_t = coeffs_t h_{t-1} + values_t, over dim -2: the first-order linear recurrence.

    More than 16 steps are evaluated in pieces (a step is an affine map, and affine maps compose), so the
    product of the coefficients over any run of steps must stay finite, as it does where they are at most 1
    in magnitude; infinite products give NaN. Products of coefficients near 1 lose digits: in float32 a state may
    be off by 1e-4 of itself after a million steps within 1e-5 of 1, where steps one by one are off by as much, and
    by 1.5e-5 within 1e-4 of 1, where these are off by 7e-6. `min_gru` has its coefficients from gates and keeps more.

    Args:
        coeffs, values: (..., seq, dim), of one shape and dtype; any size may be 0.
        h0: the state before the first step, (..., 1, dim), float32 or the dtype of values. None is 0.

    Returns:
        h: the shape and dtype of values.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes do not go together.
        ValueError: a shape or a device does not fit.

    Example:
        >>> linear_scan(torch.full((3, 1), 0.5), torch.ones(3, 1)).flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _arguments.scan({"coeffs": coeffs, "values": values}, "h0", h0)
    with _arguments.without_autocast(values, _arguments.autocast_enabled(values)):
        return scan.scan(scan.Steps(coeffs, values, h0, "linear"))


def log_scan(log_coeffs: Tensor, log_values: Tensor, log_h0: Tensor | None = None) -> Tensor:
    """log h_t = logaddexp(log_coeffs_t + log h_{t-1}, log_values_t), over dim -2 (arXiv 2311.06281).

    This is linear_scan for positive numbers given by their logarithms, which may exceed the range of a
    float once exponentiated. -inf is legal in every argument: a coefficient of 0 (a reset), a value of 0,
    an empty state. With p_t = exp(log_coeffs_t + log h_{t-1} - log h_t) and q_t = 1 - p_t the gradients are

        G_t = g_t + p_{t+1} G_{t+1},  dlog_coeffs_t = p_t G_t,  dlog_values_t = q_t G_t,  dlog_h0 = p_1 G_1

    and p_t = q_t = 0 where log h_t = -inf: there every gradient is 0. More than 16 steps are evaluated in
    pieces, so the sum of the finite coefficients over any run of steps must stay finite.

    Args:
        log_coeffs, log_values: (..., seq, dim), of one shape and dtype; any size may be 0.
        log_h0: (..., 1, dim), float32 or the dtype of log_values. None is -inf, the state 0.

    Returns:
        log_h: the shape and dtype of log_values.

    Raises:
        TypeError: an argument is no floating tensor, or the dtypes do not go together.
        ValueError: a shape or a device does not fit.

    Example:
        >>> log_scan(torch.full((3, 1), 0.5).log(), torch.zeros(3, 1)).exp().flatten()
        tensor([1.0000, 1.5000, 1.7500])
    """
    _arguments.scan({"log_coeffs": log_coeffs, "log_values": log_values}, "log_h0", log_h0)
    with _arguments.without_autocast(log_values, _arguments.autocast_enabled(log_values)):
        return scan.scan(scan.Steps(log_coeffs, log_values, log_h0, "log"))

"""The progress bar of a fit: epoch, losses and the time left."""

from __future__ import annotations

from typing import Any

from skorch.callbacks import Callback
from tqdm.auto import tqdm

__all__ = ["Progress"]


class Progress(Callback):  # type: ignore[misc]
    """A bar over the batches of all epochs, on stderr.

    Args:
        epochs: the most that there can be.
        batches: of an epoch.
        file: where it is drawn; stderr by default.
    """

    def __init__(self, epochs: int, batches: int, file: Any = None) -> None:
        self.epochs, self.batches, self.file = epochs, batches, file

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_ = tqdm(total=self.epochs * self.batches, unit="batch", file=self.file, dynamic_ncols=True)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.bar_.set_description(f"Epoch {net.history[-1, 'epoch']}/{self.epochs}", refresh=False)

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        if training:
            self.bar_.update()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        row = net.history[-1]
        losses = {name: f"{row[f'{name}_loss']:.4g}" for name in ("train", "valid") if f"{name}_loss" in row}
        self.bar_.set_postfix(losses, refresh=False)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it stands: of a fit that ends early it is not full."""
        if hasattr(self, "bar_"):
            self.bar_.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "bar_"}

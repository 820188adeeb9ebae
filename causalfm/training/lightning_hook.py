"""The robustness monitor as a callback of Lightning, which is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from causalfm.errors import MissingDependencyError
from causalfm.training.epoch_monitor import RobustnessMonitor


def lightning_callback(monitor: RobustnessMonitor, embed: Callable[[Any], tuple[Any, Any]]) -> Any:
    """Return a callback that measures and logs after every validation epoch.

    Parameters
    ----------
    monitor
        Of the validation rows.
    embed
        Takes the module in training and returns features and logits of the monitor's rows, in their order.

    Returns
    -------
    lightning.pytorch.Callback
        Logs ``robustness_index``, ``site_readout``, ``worst_site_accuracy`` and ``accuracy`` through ``module.log``.
        The sanity check before training is left out.

    Raises
    ------
    MissingDependencyError
        Neither ``lightning`` nor ``pytorch_lightning`` is installed.
    """
    import torch

    class Callback(_base()):  # type: ignore[misc]
        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            if trainer.sanity_checking:
                return
            modes = [(part, part.training) for part in module.modules()]  # frozen parts may be in another
            module.eval()
            with torch.no_grad():
                features, logits = embed(module)
            for part, mode in modes:
                part.training = mode
            found = monitor(int(trainer.current_epoch), features, logits).to_dict()
            for name in ("robustness_index", "site_readout", "worst_site_accuracy", "accuracy"):
                module.log(name, found[name])

    return Callback()


def _base() -> Any:
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    raise MissingDependencyError("lightning is not installed: pip install lightning, or call the monitor yourself.")

"""The hook for training: what it gives, and that training does not notice it."""

import numpy as np
import pandas as pd
import pytest
from extraction_samples import SIDE, FirstPixels, expected, images, spec

from causalfm.errors import DataError
from causalfm.extraction import InMemory, load_encoder

torch = pytest.importorskip("torch")
PIXELS = images(40)


def network() -> "torch.nn.Module":
    torch.manual_seed(1)
    layers = (torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Dropout(0.5), torch.nn.ReLU())
    frozen = torch.nn.BatchNorm2d(5)
    frozen.eval()  # a part that its owner keeps in evaluation mode
    return torch.nn.Sequential(*layers, frozen, torch.nn.Flatten(), torch.nn.Linear(5 * (SIDE - 2) ** 2, 6)).train(True)


def trained(hooked: bool):
    net = network()
    net[4].eval()
    hook = InMemory(PIXELS, spec(net), batch_size=16) if hooked else None
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    torch.manual_seed(2)
    np.random.seed(3)  # noqa: NPY002
    seen = []
    batch = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / np.float32(255.0))
    for _ in range(4):
        net(batch).square().mean().backward()
        if hook is not None:
            seen.append(hook())
            assert [part.training for part in net] == [True, True, True, True, False, True, True]
            assert torch.is_grad_enabled()
        optimiser.step()
        optimiser.zero_grad()
    return net, seen, torch.rand(1).item(), np.random.rand()  # noqa: NPY002


def test_training_goes_on_as_if_there_was_no_hook():
    with_hook, seen, *draws = trained(True)
    without, _, *same = trained(False)
    for name, tensor in without.state_dict().items():
        assert torch.equal(with_hook.state_dict()[name], tensor), name
    assert draws == same
    assert not np.array_equal(seen[0].X, seen[3].X)  # the network has changed
    assert [cohort.info["call"] for cohort in seen] == [0, 1, 2, 3]


def test_it_gives_what_the_network_gives_in_evaluation_mode():
    net = network()
    hook = InMemory(PIXELS, spec(net), obs=pd.DataFrame({"site": ["a", "b"] * 20}), batch_size=7)
    found = hook()
    net.eval()
    with torch.no_grad():
        wanted = net(torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / np.float32(255.0))).numpy()
    np.testing.assert_allclose(found.X, wanted, atol=1e-6)
    assert found.obs["site"].tolist() == ["a", "b"] * 20


def test_the_callers_autocast_changes_nothing():
    net = network()
    hook = InMemory(PIXELS, spec(net))
    plain = hook().X
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(hook().X, plain)
        assert torch.is_autocast_enabled("cpu")


def test_what_the_network_keeps_from_the_hook_can_be_trained_on():
    class Caching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(6))
            self.table = None

        def forward(self, batch):
            if self.table is None:
                self.table = torch.arange(6.0) + 1.0  # as rotary positions are kept
            return batch[:, 0].flatten(1)[:, :6] * self.table * self.scale

    net = Caching()
    InMemory(PIXELS, spec(net))()
    net(torch.rand(2, 3, SIDE, SIDE)).sum().backward()  # RuntimeError if the table was made under inference_mode
    assert net.scale.grad is not None


def test_images_are_read_once_and_calls_can_be_passed_over():
    class Counted:
        reads = 0

        def __len__(self) -> int:
            return 40

        def __getitem__(self, i: int) -> np.ndarray:
            self.reads += 1
            return PIXELS[i]

    source = Counted()
    hook = InMemory(source, spec(FirstPixels(most=10)), every=3)
    found = [hook() for _ in range(7)]
    assert source.reads == 40
    assert [cohort is not None for cohort in found] == [True, False, False, True, False, False, True]
    np.testing.assert_array_equal(found[6].X, expected(PIXELS))


def test_a_batch_that_shrinks_on_the_way_leaves_no_image_out(monkeypatch):
    monkeypatch.setattr("causalfm.extraction.training_hook.BATCH_ELSEWHERE", 2)
    np.testing.assert_array_equal(InMemory(PIXELS, spec(FirstPixels(most=1)))().X, expected(PIXELS))


def test_a_loaded_encoder_works_and_bad_arguments_say_so():
    np.testing.assert_array_equal(InMemory(PIXELS, load_encoder(spec(FirstPixels())))().X, expected(PIXELS))
    for name, value in (("every", 0), ("every", 1.5), ("batch_size", 0), ("batch_size", "all"), ("workers", -1)):
        with pytest.raises(DataError, match=f"{name}={value!r}"):
            InMemory(PIXELS, spec(FirstPixels()), **{name: value})
    diverged = spec(lambda batch: batch[:, 0].flatten(1)[:, :6] * float("nan"))
    with pytest.raises(DataError, match=r"X has NaN or infinite values in 40 of 40 rows \(rows 0, 1"):
        InMemory(PIXELS, diverged)()

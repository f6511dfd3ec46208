"""The embedded extractor: a small classifier, trained on the training split of the data set.

It needs no download and trains in seconds, and its features fit the data. Inception's features do
not fit handwriting. The features are those of the last convolution, averaged to 2×2. Features of
the penultimate layer collapse to about as many dimensions as there are classes, and rank badly.

Training is repeatable on one machine, but the arithmetic of another machine gives other bits and
so other scores. So the weights for MNIST and for digits lie in `gan_bench/weights/`. Each folder
has the same name as in the cache: the name depends on the recipe's version and on the data's
fingerprint, so the weights are used for no other data. `gan-bench extractor train` trains them
again.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench import rng
from gan_bench.errors import Say, UserError, one_line
from gan_bench.evaluation.features.base import Extractor
from gan_bench.evaluation.features.cache import damaged, publish
from gan_bench.evaluation.features.per_channel import per_channel
from gan_bench.evaluation.features.repeatable import one_thread
from gan_bench.registry import EXTRACTORS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from gan_bench.components.data import Dataset, Split

# The recipe. Raise its version with every change that gives other weights.
RECIPE = "1"
EPOCHS, MIN_STEPS, BATCH_SIZE = 2, 240, 128
LEARNING_RATE = 2e-3  # falls linearly to 0
WIDTHS = (24, 48, 128)
LARGEST_SIDE = 63  # pixels; larger images are averaged down first, to 32 pixels or more
SHIFT, NOISE = 1 / 14, 50  # maxima: a share of the side; a standard deviation in 255 levels

WEIGHTS, ABOUT = "weights.safetensors", "about.json"
SHIPPED = Path(__file__).parents[2] / "weights"


@EXTRACTORS.register("classifier")
def classifier(data: Dataset, cache: Path, device: str, say: Say) -> Extractor:
    """A small convolutional network, trained on the data set itself: 512 features.

    The program ships weights for some data sets. For other data, the network is trained by the
    same recipe at the first use, then read from `<cache>/extractors/`.

    Raises:
        UserError: Its test accuracy is under the data set's gate, or the cache cannot be used.
    """
    if channel := data.channel:  # a stack: the classes of its channels make up its classes
        return per_channel(classifier(channel, cache, device, say))
    folder = shipped(data)
    if folder is None:
        folder = cache / "extractors" / entry_name(data)
        if not folder.exists():
            say(f"training the classifier of {data.name} for its features, once")
            train_into(folder, data)
    network, weights, accuracy = _read(folder, data)
    largest = _largest_share(data.test)
    instead = ("leave out the metrics that need it (fd_classifier, classifier_score), or check the "
               "labels")
    if largest == 1:
        raise UserError(f"the classifier of {data.name} cannot be judged, because all held-out "
                        f"images are of the same class; {instead}")
    if accuracy < data.facts.gate:
        raise UserError(
            f"the classifier of {data.name} reaches a test accuracy of {accuracy:.3f}, and its "
            f"features are trusted from {data.facts.gate} (the most frequent class alone has "
            f"{largest:.3f}); {instead}")
    return Extractor("classifier", weights, network.to(device).eval(), device, batch_size=250)


def build_classifier(channels: int, side: int, classes: int) -> nn.Module:
    """Return the network: images (N, C, H, W) in 0..255 → values (N, 512), logits (N, classes)."""
    import torch
    from torch import nn

    first, second, third = WIDTHS
    shrink = side // 32 if side > LARGEST_SIDE else 1
    last_side = side // shrink // 4

    def convolution(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after),
                nn.ReLU(inplace=True)]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(
                nn.AvgPool2d(shrink) if shrink > 1 else nn.Identity(),
                *convolution(channels, first), nn.MaxPool2d(2),
                *convolution(first, second), nn.MaxPool2d(2),
                *convolution(second, third),
                # Equal to AdaptiveAvgPool2d(2), whose backward pass on CUDA is not repeatable.
                nn.AvgPool2d((last_side + 1) // 2, stride=last_side // 2), nn.Flatten())
            self.head = nn.Linear(4 * third, classes)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            scaled = images.to(torch.float32) / 127.5 - 1
            values = self.features(scaled.contiguous(memory_format=torch.channels_last))
            return values, self.head(values)

    return Network().to(memory_format=torch.channels_last)  # on a CPU 1.5 times as fast


def entry_name(data: Dataset) -> str:
    """Return the name of the folder with this data's weights, in the package and in the cache."""
    name, fingerprint = data.examples
    key = hashlib.sha256(f"{RECIPE}/{fingerprint}".encode()).hexdigest()[:12]
    return f"classifier-{name}-{key}"


def shipped(data: Dataset) -> Path | None:
    """Return the folder of the weights that ship for this data and recipe; None if absent."""
    folder = SHIPPED / entry_name(data)
    return folder if folder.is_dir() else None


def train_classifier(data: Dataset) -> nn.Module:
    """Train the network by the recipe, on the CPU in one thread: the same weights on any device.
    """
    import torch
    from torch.nn.functional import cross_entropy

    images, labels = _on_cpu(data.whole)
    batches = len(images) // min(BATCH_SIZE, len(images))
    steps = batches * max(EPOCHS, math.ceil(MIN_STEPS / batches))
    with one_thread(), torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(rng.derive(0, "classifier/init"))
        network = build_classifier(images.shape[1], images.shape[2], data.facts.classes)
        optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        for step in range(steps):
            if step % batches == 0:
                draws = rng.generator(0, "classifier/order", step // batches)
                order = torch.randperm(len(images), generator=draws)
            chosen = order[step % batches * BATCH_SIZE :][:BATCH_SIZE]
            batch = augment(images[chosen], rng.generator(0, "classifier/augment", step))
            loss = cross_entropy(network(batch)[1], labels[chosen])
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / steps)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network.eval()


def augment(images: Tensor, draws: torch.Generator) -> Tensor:
    """Return uint8 images (N, C, H, W) shifted, half of them blurred, half of them noisy: float32.

    Generators in training make blurred, noisy and shifted images. Features of a network that never
    saw such images rank them by accident.
    """
    import torch
    from torch.nn import functional

    count, channels, side, _ = images.shape
    reach = max(1, round(SHIFT * side))
    padded = functional.pad(images.to(torch.float32), [reach] * 4, mode="replicate")
    ys, xs = (torch.arange(side) + torch.randint(2 * reach + 1, (count, 1), generator=draws)
              for _ in range(2))
    rows = torch.arange(count)[:, None, None]
    images = padded[rows, :, ys[:, :, None], xs[:, None, :]].permute(0, 3, 1, 2)

    def amounts() -> Tensor:
        """For each image 0 or, with probability 1/2, uniform in 0..1."""
        return (2 * torch.rand(count, 1, 1, 1, generator=draws) - 1).clamp(min=0)

    row = torch.tensor([0.25, 0.5, 0.25])
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    smooth = functional.pad(images, [1] * 4, mode="replicate")
    blurred = functional.conv2d(smooth, kernel, groups=channels)
    images = images + amounts() * (blurred - images)
    return images + amounts() * NOISE * torch.randn(images.shape, generator=draws)


def accuracy(network: nn.Module, split: Split) -> float:
    """Return the share of the split's images that the network classifies correctly."""
    import torch

    images, labels = _on_cpu(split)
    with one_thread(), torch.no_grad():
        right = [(network(batch)[1].argmax(1) == truth).sum()
                 for batch, truth in zip(torch.split(images, 250), torch.split(labels, 250),
                                      strict=True)]
    return float(torch.stack(right).sum()) / len(images)


def train_into(folder: Path, data: Dataset) -> None:
    """Train the network by the recipe; write `weights.safetensors` and `about.json` to `folder`.

    Raises:
        UserError: The folder cannot be written.
    """
    from safetensors.torch import save

    network = train_classifier(data)
    content = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    channels, side, _ = data.facts.shape
    name, fingerprint = data.examples
    about = {"data": name, "channels": channels, "side": side, "fingerprint": fingerprint,
             "recipe": RECIPE,
             "accuracy": accuracy(network, data.test),
             "sha256": hashlib.sha256(content).hexdigest()}

    def write(temporary: Path) -> None:
        (temporary / WEIGHTS).write_bytes(content)
        (temporary / ABOUT).write_text(json.dumps(about, indent=1) + "\n")

    publish(folder, write)


def _read(folder: Path, data: Dataset) -> tuple[nn.Module, str, float]:
    """Return the network, its weights' id and its test accuracy."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    channels, side, _ = data.facts.shape
    with torch.random.fork_rng(devices=[]):
        network = build_classifier(channels, side, data.facts.classes)
    try:
        content = (folder / WEIGHTS).read_bytes()
        about = json.loads((folder / ABOUT).read_text())
        digest = hashlib.sha256(content).hexdigest()
        if digest != about["sha256"]:
            raise ValueError(f"{WEIGHTS} is not the file that {ABOUT} describes")
        network.load_state_dict(load(content))
        reached = float(about["accuracy"])
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        if folder.parent == SHIPPED:
            raise UserError(f"{folder}: these weights, which ship with gan-bench, are damaged "
                            f"({one_line(error)}); install gan-bench again") from None
        raise damaged(folder, error) from None
    return network, digest[:12], reached


def _largest_share(split: Split) -> float:
    """The share of the most frequent class: the accuracy of a network that names it alone."""
    import torch

    _, labels = _on_cpu(split)
    return int(torch.bincount(labels).max()) / len(labels)


def _on_cpu(split: Split) -> tuple[Tensor, Tensor]:
    assert split.labels is not None
    return split.images.cpu(), split.labels.cpu()

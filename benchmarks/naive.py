"""The script that a user would otherwise write: a GAN on MNIST, as the tutorials train one.

    python benchmarks/naive.py --model mlp --steps 200 --data FOLDER

A DataLoader with PIL transforms, sigmoid and BCELoss, plain Adam, both losses fetched at every
step; G first, then D on the same fakes, as in the widely copied scripts. It uses no code of
gan_bench, and torch uses all cores. The scripts use no workers; step.py and gpu.py try several
numbers of --workers and take the fastest. Prints steps/s after a warm-up.

FOLDER holds MNIST/raw, as torchvision writes it. Without it the images are random bytes.
"""

from __future__ import annotations

import argparse
import time

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets, transforms

LATENT, SIDE = 100, 32


class MlpGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, normalise: bool = True) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Linear(before, after)]
            if normalise:
                layers.append(nn.BatchNorm1d(after))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            return layers

        self.model = nn.Sequential(
            *block(LATENT, 128, normalise=False), *block(128, 256), *block(256, 512),
            *block(512, 1024), nn.Linear(1024, SIDE * SIDE), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        return self.model(latents).view(-1, 1, SIDE, SIDE)


class MlpDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(SIDE * SIDE, 512), nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(512, 256), nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(256, 1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.view(images.size(0), -1))


class UpsampleGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(LATENT, 128 * (SIDE // 4) ** 2)
        self.blocks = nn.Sequential(
            nn.BatchNorm2d(128),
            nn.Upsample(scale_factor=2), nn.Conv2d(128, 128, 3, padding=1),
            nn.BatchNorm2d(128), nn.LeakyReLU(0.2, inplace=True),
            nn.Upsample(scale_factor=2), nn.Conv2d(128, 64, 3, padding=1),
            nn.BatchNorm2d(64), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, 1, 3, padding=1), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        return self.blocks(self.first(latents).view(-1, 128, SIDE // 4, SIDE // 4))


class UpsampleDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def block(before: int, after: int, normalise: bool = True) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Conv2d(before, after, 3, 2, 1),
                                       nn.LeakyReLU(0.2, inplace=True), nn.Dropout2d(0.25)]
            if normalise:
                layers.append(nn.BatchNorm2d(after))
            return layers

        self.blocks = nn.Sequential(*block(1, 16, normalise=False), *block(16, 32),
                                    *block(32, 64), *block(64, 128))
        self.last = nn.Sequential(nn.Linear(128 * (SIDE // 16) ** 2, 1), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.blocks(images).flatten(1))


class DcganGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.ConvTranspose2d(LATENT, 512, 4, 1, 0, bias=False), nn.BatchNorm2d(512),
            nn.ReLU(True),
            nn.ConvTranspose2d(512, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(True),
            nn.ConvTranspose2d(256, 128, 4, 2, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(True),
            nn.ConvTranspose2d(128, 1, 4, 2, 1), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:
        return self.model(latents.view(-1, LATENT, 1, 1))


class DcganDiscriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(1, 128, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(128, 256, 4, 2, 1, bias=False), nn.BatchNorm2d(256),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(256, 512, 4, 2, 1, bias=False), nn.BatchNorm2d(512),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(512, 1, 4), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).view(-1, 1)


MODELS = {
    "mlp": (MlpGenerator, MlpDiscriminator),
    "dcgan_upsample": (UpsampleGenerator, UpsampleDiscriminator),
    "dcgan": (DcganGenerator, DcganDiscriminator),
}


def weights_init(layer: nn.Module) -> None:
    """N(0, 0.02) for convolutions, N(1, 0.02) for batch norm."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


class RandomDigits(Dataset):
    """Random bytes in the place of MNIST: the same number, size and type of images."""

    def __init__(self, transform: transforms.Compose) -> None:
        self.transform = transform
        self.data = torch.randint(0, 256, (60_000, 28, 28), dtype=torch.uint8)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data[index].numpy(), mode="L")), 0


def main() -> None:
    """Train, and print how fast it went."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--steps", type=int, default=200, help="how many are timed")
    parser.add_argument("--warmup", type=int, default=10, help="how many come before")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--data", help="the folder with MNIST/raw; default: random images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="num_workers of the DataLoader")
    options = parser.parse_args()

    device = torch.device(options.device)
    transform = transforms.Compose([
        transforms.Resize(SIDE), transforms.ToTensor(), transforms.Normalize([0.5], [0.5])])
    digits = (datasets.MNIST(options.data, train=True, transform=transform) if options.data else
              RandomDigits(transform))
    loader = DataLoader(digits, batch_size=options.batch_size, shuffle=True,
                        num_workers=options.workers)

    make_generator, make_discriminator = MODELS[options.model]
    generator, discriminator = make_generator().to(device), make_discriminator().to(device)
    generator.apply(weights_init)
    discriminator.apply(weights_init)
    criterion = nn.BCELoss()
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    step, begin, losses = 0, time.perf_counter(), []
    while step < options.warmup + options.steps:
        for images, _ in loader:
            real = images.to(device)
            ones = torch.ones(real.size(0), 1, device=device)
            zeros = torch.zeros(real.size(0), 1, device=device)

            optimizer_g.zero_grad()
            fake = generator(torch.randn(real.size(0), LATENT, device=device))
            g_loss = criterion(discriminator(fake), ones)
            g_loss.backward()
            optimizer_g.step()

            optimizer_d.zero_grad()
            real_loss = criterion(discriminator(real), ones)
            fake_loss = criterion(discriminator(fake.detach()), zeros)
            d_loss = (real_loss + fake_loss) / 2
            d_loss.backward()
            optimizer_d.step()

            losses.append((d_loss.item(), g_loss.item()))
            step += 1
            if step == options.warmup:
                begin = time.perf_counter()
            if step == options.warmup + options.steps:
                break
    # The losses have just been fetched, so a GPU has done all its work.
    seconds = time.perf_counter() - begin
    print(f"{options.steps / seconds:.3f} steps/s: {options.model}, {options.steps} steps after "
          f"{options.warmup}, {options.workers} workers, {torch.get_num_threads()} threads, "
          f"D {losses[-1][0]:.3f}, G {losses[-1][1]:.3f}")


if __name__ == "__main__":
    main()

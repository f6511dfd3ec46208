"""The commands on a trained generator, `sample` and `export`: options only. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_bench.cli.completion import complete_run
from gan_bench.cli.options import DATA, ROOT, DataRoot, Plugins, Root, use_plugin_files
from gan_bench.journal.layout import Workspace

Run = Annotated[str, typer.Argument(metavar="RUN", autocompletion=complete_run,
                                    help="A run's id, or its first characters.")]


def add_generator_commands(app: typer.Typer) -> None:
    """Add the commands to the program."""
    @app.command()
    def sample(
        run: Run,
        out: Annotated[Path, typer.Option(
            "--out", "-o", help="A .png (a grid), a .npz (arrays), or a new folder (a .png "
            "each).")],
        n: Annotated[int, typer.Option("--n", "-n", min=1, max=1_000_000,
                                       help="Number of images.")] = 64,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the latents.")] = 0,
        interpolate: Annotated[bool, typer.Option(
            "--interpolate", help="Let each row of a square grid go from one latent to another.",
        )] = False,
        limit: Annotated[float | None, typer.Option(
            "--limit", min=0.1, help="Draw values of the normal latents beyond ±LIMIT anew "
            "(BigGAN's truncation). \\[default: no limit]")] = None,
        psi: Annotated[float, typer.Option(
            "--psi", min=0.0, max=2.0, help="Draw styles to their mean: 0 is the mean, 1 changes "
            "nothing (StyleGAN's truncation).")] = 1.0,
        plugins: Plugins = [],
        root: Root = ROOT,
        data_root: DataRoot = DATA,
    ) -> None:
        """Write samples of a trained generator: a picture, arrays in a .npz, or a folder of images.

        The arrays are `images` or `vectors`, and for a conditional run also `labels`, or `inputs`
        and `targets`: a run on pairs starts from the held-out inputs of its data.
        """
        from gan_bench.cli.results.sample import write_samples

        use_plugin_files(plugins)
        write_samples(Workspace(root, data_root), run, out, n, seed, interpolate=interpolate,
                      limit=limit, psi=psi)
        print(f"{out}: {n} samples")

    @app.command()
    def export(
        run: Run,
        out: Annotated[Path, typer.Option(
            "--out", "-o", help="A .pt2 (torch.export), or an .onnx, which needs onnxscript.")],
        plugins: Plugins = [],
        root: Root = ROOT,
    ) -> None:
        """Write a trained generator as a file that other programs run without gan-bench.

        Its input is (N, D) float32. Of a run without labels, each row is a latent. Of a conditional
        run, it is a latent and then the label, one-hot. Of a run on pairs, it is a latent and then
        the input image, flattened, in [-1, 1].

        Its output is (N, C, H, W) in [-1, 1], or (N, D) if the data are vectors.
        """
        from gan_bench.cli.results.export import export_generator

        use_plugin_files(plugins)
        print(f"{out}: input {export_generator(Workspace(root).root, run, out)}")

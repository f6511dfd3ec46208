"""`python -m gan_bench`: the same as the command `gan-bench`."""

from gan_bench.cli.app import main

main()

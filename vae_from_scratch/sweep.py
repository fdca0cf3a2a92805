"""What does a nat of KL buy? Train once for every β, and draw distortion against rate.

    python sweep.py                              # creatures, five values of β
    python sweep.py --data mnist --betas 0.5 1 2
"""

# no shapes here: evaluation.py gives the numbers

import argparse
import sys
import tempfile
from pathlib import Path

import console
import devices
import options
import pictures
from data import CREATURES, NAMES, QUICK, Data, load
from evaluation import evaluate, inputs_of
from train import Run, restore_best, train

BETAS = (0.25, 0.5, 1.0, 4.0, 16.0)


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    console.add_data_flags(parser, NAMES, default="creatures")
    add = parser.add_argument
    add("--betas", metavar="X", type=console.positive_float, nargs="+", default=list(BETAS),
        help="the prices of a nat of KL (default: 0.25 0.5 1 4 16)")
    add("--epochs", metavar="N", type=console.positive_int, default=6,
        help="epochs of each training (default: %(default)s)")
    add("--seed", metavar="N", type=console.seed, default=0, help="default: 0")
    add("--out", metavar="DIR", type=Path, default=Path(__file__).with_name("runs"),
        help="where rate_distortion.png and results.json go (default: runs/ in this folder)")
    add("--quick", action="store_true", help="a smoke run: one epoch, two values")
    add("--debug", action="store_true", help="show the traceback of an error")
    args = parser.parse_args(argv)
    if args.quick:
        args.epochs, args.betas = 1, args.betas[:2]
    return args


def trained(args: argparse.Namespace, beta: float, data: Data, stop: console.Stop) -> Run:
    """A run at this price that leaves nothing behind but its model."""
    mine = options.parser().parse_args(["--data", args.data, f"--epochs={args.epochs}",
                                        f"--beta={beta}", f"--seed={args.seed}"])
    options.set_defaults(mine)
    mine.log_every = 0
    batches = -(-len(data.train.images) // mine.batch_size)
    mine.beta_warm_up = min(mine.beta_warm_up, args.epochs * batches // 3)  # ends in time
    with tempfile.TemporaryDirectory() as folder:
        mine.out_dir = Path(folder)
        run = Run(mine, data, devices.choose("auto"))
        train(run, stop)
        if not stop.requested:
            restore_best(run)
        run.metrics.file.close()      # Windows removes no open file
    return run


@console.one_line_errors
def main(argv: list[str] | None = None) -> int:
    """Print the table of prices, and draw it."""
    args = parse(argv)
    counts = QUICK if args.quick else CREATURES
    data = load(args.data, args.data_dir, counts=counts)
    data = data.shortened(counts) if args.quick else data
    print("     β    recon.      KL     -ELBO  active    PSNR", flush=True)
    rows, kept = [], {}
    with console.Stop() as stop:
        for beta in args.betas:
            run = trained(args, beta, data, stop)
            if stop.requested:
                return stop.exit_code
            found = evaluate(run.model, inputs_of(data.test, run.config))
            rows.append((beta, found.reconstruction, found.kl))
            kept[f"{beta:g}"] = {"cost": found.cost, "kl": found.kl, "active": found.active,
                                 "psnr": found.psnr}
            print(f"{beta:6g} {found.reconstruction:9.2f} {found.kl:7.2f} {found.cost:9.2f} "
                  f"{found.active:7} {found.psnr:7.2f}", flush=True)
    pictures.draw_rate_distortion(rows, args.out / "rate_distortion.png")
    console.write_results(args.out, "sweep.py", args, prices=kept)
    print(f"wrote rate_distortion.png and results.json to {console.from_here(args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

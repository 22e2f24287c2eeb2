"""Write the encoder of a classifier's checkpoint as the bare {'model': ...} file that train.py --mypretrain loads."""

import os
import sys

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the project, behind this folder

from system.command_line import Parser, command  # noqa: E402
from system.errors import UserError  # noqa: E402


@command
def main(argv=None):
    """Read the checkpoint, tell the model, write the encoder."""
    parser = Parser(prog="lite-mono-pretrain-code/export_encoder.py", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, state or published ImageNet file")
    parser.add_argument("out", metavar="OUT", help="file to write")
    # Bare: a value would be the path that comes next.
    parser.add_argument("--ema", action="store_true", help="take the moving average of the weights")
    parser.add_argument("--keep_head", action="store_true", help="keep the classifier and its norm")
    opt = parser.parse_args(argv)
    if os.path.exists(opt.out) and os.path.samefile(opt.checkpoint, opt.out):
        raise UserError("the checkpoint would be overwritten", opt.out, "give OUT another name")
    from checkpointing.files import write_state
    from checkpointing.imagenet import encoder_entries
    from classifier import identify_encoder, read_classifier

    state, _ = read_classifier(opt.checkpoint, "model_ema" if opt.ema else "model", "--ema")
    name = identify_encoder(state, opt.checkpoint)
    kept = state if opt.keep_head else encoder_entries(state)
    write_state(opt.out, {"model": kept})
    print(f"{opt.out}: {len(kept)} entries of {name}; use it with: train.py --model {name} --mypretrain {opt.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

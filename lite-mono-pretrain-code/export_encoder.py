"""Write the encoder of a classifier's checkpoint as the bare {'model': ...} file that train.py --mypretrain loads."""

import os
import sys

sys.path.insert(1, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # the project, behind this folder

from system.command_line import (
    Parser,  # noqa: E402
    command,  # noqa: E402
)


@command
def main(argv=None):
    """Read the checkpoint, tell the model, write the encoder."""
    parser = Parser(prog="lite-mono-pretrain-code/export_encoder.py", description=__doc__)
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="checkpoint, state or published ImageNet file")
    parser.add_argument("out", metavar="OUT", help="file to write")
    Parser.flag(parser, "ema", help="take the moving average of the weights")
    Parser.flag(parser, "keep_head", help="keep the classifier and its norm")
    opt = parser.parse_args(argv)
    from checkpointing.files import write_state
    from classifier import encoder_entries, identify_encoder, read_classifier

    state, _ = read_classifier(opt.checkpoint, opt.ema)
    name = identify_encoder(state, opt.checkpoint)
    kept = state if opt.keep_head else encoder_entries(state)
    write_state(opt.out, {"model": kept})
    print(f"{opt.out}: {len(kept)} entries of {name}; use it with: train.py --model {name} --mypretrain {opt.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

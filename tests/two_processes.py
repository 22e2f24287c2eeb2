"""What two processes do in the tests of distributed training; started by torchrun.

gradients FOLDER: gradients of a network without BatchNorm statistics, each process with its half of a batch.
otherwise: train.main with the arguments; EXIT_AT=step makes rank 1 vanish before that step; PARAMETERS=folder makes
    each process save its parameters there at the end; SLOW_FRAMES, SLOW_STEPS=seconds are slept at each frame that a
    cache takes in, and at each step.
"""

import os
import sys
import time

import torch


def gradients(folder):
    """Save the gradients that the process with this rank holds after the backward pass; `halves` tells whose inputs."""
    from system import distributed
    from tests.short_runs import options
    from trainer import Trainer

    torch.set_num_threads(1)
    flags = "--model lite-mono-tiny --height 32 --width 64 --pose_model_type posecnn --drop_path 0 --no_cuda"
    trainer = Trainer(options(*flags.split(), "--disable_automasking"))
    rank, count = trainer.processes.rank, trainer.processes.count
    for module in trainer.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    _, losses = trainer.process_batch(batch(range(4)[rank * 4 // count : (rank + 1) * 4 // count]))
    losses["loss"].backward()
    found = {key: parameter.grad for key, parameter in trainer.network.named_parameters()}
    torch.save(found, os.path.join(folder, f"of_{count}_rank_{rank}.pt"))
    distributed.stop()


def batch(items, height=32, width=64):
    """Return a made-up batch of the items with these numbers."""
    from tests.reference.seeded_weights import image

    values = {}
    for frame in (0, -1, 1):
        picture = torch.cat([torch.from_numpy(image(10 * item + frame + 1, (1, 3, height, width))) for item in items])
        for scale in range(3):
            values["color", frame, scale] = torch.nn.functional.avg_pool2d(picture, 2**scale)
        values["color_aug", frame, 0] = picture
    K = torch.tensor([[40.0, 0, width / 2, 0], [0, 40, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).repeat(
        len(items), 1, 1
    )
    for scale in range(3):
        values["K", scale], values["inv_K", scale] = K, torch.linalg.inv(K)
    return values


def training(argv):
    """Train, and let rank 1 vanish when it is told to."""
    import train
    import trainer
    from datasets.cache_contents import CacheContents

    torch.set_num_threads(1)
    whole, pixels = trainer.Trainer._optimise, CacheContents.pixels

    def slow_pixels(self, row):
        time.sleep(float(os.environ.get("SLOW_FRAMES", 0)))
        return pixels(self, row)

    CacheContents.pixels = slow_pixels

    def optimise(self, batches):
        time.sleep(float(os.environ.get("SLOW_STEPS", 0)))
        if self.processes.rank == 1 and str(self.step) == os.environ.get("EXIT_AT"):
            os._exit(1)
        return whole(self, batches)

    run = trainer.Trainer.train

    def train_and_tell(self):
        run(self)
        if "PARAMETERS" in os.environ:
            parameters = {key: value.detach() for key, value in self.network.named_parameters()}
            torch.save(parameters, os.path.join(os.environ["PARAMETERS"], f"{self.processes.rank}.pt"))

    trainer.Trainer._optimise, trainer.Trainer.train = optimise, train_and_tell
    return train.main(argv)


if __name__ == "__main__":
    sys.exit(gradients(sys.argv[2]) if sys.argv[1] == "gradients" else training(sys.argv[1:]))

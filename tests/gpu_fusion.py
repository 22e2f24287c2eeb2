"""What Inductor makes of a compiled training step on CUDA, by its own count, without a GPU.

    python -m tests.gpu_on_paper --compiled BATCH HEIGHT WIDTH [options of train.py] [--parts augmentation loss broken]

prints a JSON object: kernels after fusion and the bytes that they read and write, by part and altogether. Graphs are
traced with fake tensors, split and fused as torch.compile does it; no kernel is built. What is not compiled (bytes to
colours, the optimisers) is counted operation by operation. `broken`, counted when asked for and not added to the sums,
is a loss that makes one large map more, with sums that nothing fuses with.
"""

import collections
import json
import sys
import tempfile
import warnings

import torch

from tests import gpu_on_paper

PARTS = ("augmentation", "loss", "networks")
NO_BENCHMARKS = {"joint_graph_constant_folding": False, "shape_padding": False, "fx_graph_cache": False}


class Fusion:
    """Compiles functions of fake tensors as far as the count needs it; `found`: {part: [kernels, bytes]}."""

    def __init__(self, mode, options):
        from torch._dynamo import device_interface
        from torch._inductor import compile_fx, config, graph, scheduler, virtualized

        self.mode, self.options, self.found = mode, NO_BENCHMARKS | options, collections.defaultdict(lambda: [0, 0])
        self.compile_fx, self.config, self.graph, self.scheduler = compile_fx, config, graph, scheduler
        self.V = virtualized.V
        for interface in (device_interface.CudaInterface, device_interface.CudaInterface.Worker):
            interface.get_device_properties = staticmethod(torch.cuda.get_device_properties)
        for module in list(sys.modules.values()):
            if getattr(module, "__name__", "").startswith("torch._inductor") and hasattr(module, "is_big_gpu"):
                module.is_big_gpu = lambda *_: True

    def compiled(self, part, function):
        """Return `function`, whose graphs are counted when it is called and when its gradient is taken."""
        from functorch.compile import aot_function
        from torch._inductor.decomposition import select_decomp_table

        def compiler(backward):
            return lambda module, given: self._count(part, module, given, backward)

        return aot_function(function, fw_compiler=compiler(False), bw_compiler=compiler(True),
                            partition_fn=self._partition, decompositions=select_decomp_table())  # fmt: skip

    def _partition(self, module, given, **how):
        from functorch.compile import min_cut_rematerialization_partition

        with self.config.patch(self.options), self.V.set_fake_mode(self.mode):
            self.compile_fx._recursive_joint_graph_passes(module)
        return min_cut_rematerialization_partition(module, given, compiler="inductor", **how)

    def _count(self, part, module, given, backward):
        from torch._inductor.debug import DebugContext

        V = self.V
        with self.config.patch(self.options), V.set_debug_handler(DebugContext()), V.set_fake_mode(self.mode):
            self.compile_fx._recursive_post_grad_passes(module, is_inference=False)
            lowered = self.graph.GraphLowering(module, example_inputs=given, is_backward=backward)
            with V.set_graph_handler(lowered), V.set_extern_kernel_nodes([]):
                lowered.run(*given)
                lowered.init_wrapper_code()
                lowered._update_scheduler()
                moved = lowered.count_bytes()[0]
        nothing = self.scheduler.NopKernelSchedulerNode
        launched = [each for each in lowered.scheduler.nodes if not isinstance(each, nothing)]
        # The several results of one kernel are nodes of their own.
        launched = [each for each in launched if type(getattr(each, "node", None)).__name__ != "MultiOutput"]
        self.found[part][0] += len(launched)
        self.found[part][1] += moved
        return module


def main(argv):
    """Count the parts of one step and print what was found."""
    warnings.filterwarnings("ignore")
    parts = PARTS
    if "--parts" in argv:
        place = argv.index("--parts")
        argv, parts = argv[:place], argv[place + 1 :]
    with gpu_on_paper.pretend() as mode, torch.autograd.set_multithreading_enabled(False):
        from training.run.precision import compile_options

        options = compile_options(torch.device("cuda")).get("options", {})
        fusion = Fusion(mode, options)
        with tempfile.TemporaryDirectory() as folder:
            trainer = gpu_on_paper.make_trainer(argv, folder)
        inputs = {key: each for key, each in trainer.prepare(trainer.data.batch()).items() if torch.is_tensor(each)}
        if "augmentation" in parts:
            _augmentation(trainer, fusion)
        if "networks" in parts:
            outputs = _networks(trainer, fusion, inputs)
        else:
            with trainer.precision.autocast():
                outputs = trainer.network(inputs)
        for name in ("loss", "broken"):
            if name in parts:
                _loss(name, trainer, fusion, inputs, outputs)
        fusion.found["not compiled"] = _rest(trainer)
    counted = [each for name, each in fusion.found.items() if name != "broken"]
    kernels, moved = (sum(each[index] for each in counted) for index in (0, 1))
    found = {name: {"kernels": count, "gigabytes": size / 1e9} for name, (count, size) in fusion.found.items()}
    print(json.dumps({"kernels": kernels, "gigabytes": moved / 1e9, "parts": found}))


def _augmentation(trainer, fusion):
    from datasets.jitter import apply_batch

    count = trainer.opt.batch_size * len(trainer.opt.frame_ids)
    images = torch.rand(count, 3, trainer.opt.height, trainer.opt.width, device="cuda")
    with torch.no_grad():
        fusion.compiled("augmentation", apply_batch)(images, torch.rand(count, 4, 4, device="cuda"))


def _networks(trainer, fusion, inputs):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = trainer.network

        def forward(self, given):
            with trainer.precision.autocast():
                return self.network(given)

    whole = Whole()
    call = fusion.compiled("networks", lambda state, given: torch.func.functional_call(whole, state, (given,)))
    outputs = call(dict(whole.named_parameters()) | dict(whole.named_buffers()), inputs)
    leaves = [each for each in torch.utils._pytree.tree_leaves(outputs) if each.requires_grad]
    torch.autograd.backward(leaves, [torch.zeros_like(each) for each in leaves])
    return outputs


def _loss(name, trainer, fusion, inputs, outputs):
    from losses.objective import compute_losses

    def loss(*given):
        maps, losses = compute_losses(*given, trainer.objective)
        if name == "broken":
            maps["sums"] = maps["depth", 0, 0].expand(-1, 64, -1, -1).flatten(2).cumsum(2).cumsum(1).cumsum(2)
        return maps, losses

    given = torch.utils._pytree.tree_map(lambda each: each.detach().requires_grad_(each.requires_grad), outputs)
    fusion.compiled(name, loss)(inputs, given)[1]["loss"].backward()


def _rest(trainer):
    from datasets.on_device import complete

    for parameter in trainer.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    trainer.optimisation.step()  # makes the moments
    batch = {key: each.cuda() for key, each in trainer.data.batch().items()}
    with gpu_on_paper.Count() as count:
        complete(batch, trainer.data.train_set.wanted, lambda images, tables: images)
        trainer.optimisation.step((torch.zeros((), device="cuda"),))
    return count.operations, count.bytes

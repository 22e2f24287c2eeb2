"""The ONNX graph of a depth network: made through torch.export, simplified, named by the network's own modules.

The file's metadata say what it is and what goes in and out, so that `inference.onnx_runner` needs nothing else.
"""

import re

import torch

from exporting.packages import Quiet, need
from system.errors import UserError

OPSETS = (18, 23)  # first and last; antialiased resizing came with 18
DEFAULT_OPSET = 20  # the first with GELU as one operator
NAME = "image"  # of the input


def example_images(form, count=1, size=None, seed=0):
    """Return random images as the form takes them, a torch tensor; `size` replaces the form's (height, width)."""
    height, width = size or form.size
    values = torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))
    return values if form.given == "float" else (values * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def dynamic_shapes(form):
    """Return {dimension of the input: torch.export.Dim} of what is not fixed; None where everything is."""
    free = {}
    first = 2 if form.given == "float" else 1
    if form.any_batch:
        free[0] = torch.export.Dim("batch", min=1, max=4096)
    for offset, name in enumerate(("height", "width")):
        if form.any_size:
            free[first + offset] = 32 * torch.export.Dim(f"{name}_32nd", min=2, max=256)
        elif form.resize:
            free[first + offset] = torch.export.Dim(name, min=2, max=32768)
    return free or None


def examples(form):
    """Return the image that a graph is traced with: no free dimension may be 1, nor the size that is resized to."""
    size = tuple(side + 17 for side in form.size) if form.resize else form.size
    return example_images(form, 2 if form.any_batch else 1, size)


def exported_program(network, form):
    """Return the `torch.export.ExportedProgram` of an `ExportedNetwork`."""
    free = dynamic_shapes(form)
    with Quiet(), torch.no_grad():
        return torch.export.export(network.eval(), (examples(form),), dynamic_shapes=(free,) if free else None)


def onnx_model(network, form, opset=DEFAULT_OPSET, facts=None):
    """Return the ONNX model of an `ExportedNetwork`.

    Args:
        network: the `exporting.network.ExportedNetwork`.
        form: its `Form`.
        opset: version of the operators, in `OPSETS`.
        facts: {key: text} that go into the file's metadata.

    Raises:
        UserError: packages are missing, or the opset is none that can be written.
    """
    onnx, _ = need("onnx", "onnxscript")
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UserError("no opset that can be written", opset, f"choose one from {OPSETS[0]} to {OPSETS[1]}")
    free = dynamic_shapes(form)
    with Quiet(), torch.no_grad():
        program = torch.onnx.export(
            network.eval(), (examples(form),), dynamo=True, opset_version=opset, input_names=[NAME],
            output_names=[form.output], dynamic_shapes=(free,) if free else None, verbose=False, optimize=True,
        )  # fmt: skip
    model = program.model_proto
    written = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
    if written != opset:
        raise UserError("the graph cannot be written in this opset", f"{opset} (it came out as {written})",
                        f"choose --opset {DEFAULT_OPSET}")  # fmt: skip
    _name_nodes(model)
    onnx.helper.set_model_props(model, facts or {})
    onnx.checker.check_model(model)
    return model


def _name_nodes(model):
    """Name every node by its module, and drop the exporter's notes, paths of source files among them."""
    for node in model.graph.node:
        notes = {each.key: each.value for each in node.metadata_props}
        scopes = re.findall(r"'([^']*)'", notes.get("pkg.torch.onnx.name_scopes", ""))
        module = scopes[-2] if len(scopes) > 1 else ""
        node.name = f"{module or 'graph'}/{node.name.removeprefix('node_')}"
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]


def module_of(node):
    """Return the dotted name of the module that a node of our graphs stands for."""
    return node.name.rpartition("/")[0]

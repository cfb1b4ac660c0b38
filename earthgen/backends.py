"""What runs the network's layers: torch itself, or OpenVINO on the same weights, in float32 or in bfloat16.

A backend replaces the layers that take the time, and nothing else: noise, conditioning, sampling and rounding
stay what they are. Its numbers differ from torch's in the last bits, so a backend is part of an engine's
fingerprint and its pixels are cached apart. Each window still runs on one thread, so that a backend's bytes
depend on the number of threads as little as torch's do.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import nn

from earthgen.denoiser import DetailDenoiser
from earthgen.errors import BackendError

Backend = Literal["torch", "openvino", "openvino-bf16"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
_HEAVY = ("unet", "refine.widen", "refine.narrow")
"""The parts of a network that take the time, where it has them. The block transforms between them stay torch's: the
converter gets their products of three tensors wrong."""
_TOLERANCES: dict[Backend, float] = {"openvino": 1e-3, "openvino-bf16": 5e-2}
"""Largest difference to torch's result that rounding explains, as a share of that result's largest number."""


def check_backend(name: str, device: torch.device) -> Backend:
    """The backend of a name.

    Raises:
        BackendError: no such backend, it is not installed, or it does not run on the device.
    """
    for backend in BACKENDS:
        if backend == name:
            break
    else:
        raise BackendError(f"backend {name!r}; allowed: {', '.join(BACKENDS)}")
    if backend == "torch":
        return backend
    if device.type != "cpu":
        raise BackendError(f"backend {name!r} computes on the CPU, not on {device.type}; use backend 'torch' there")
    try:
        import openvino
    except ImportError as error:
        raise BackendError(
            f"backend {name!r} is not installed; pip install 'earthgen[openvino]', or use backend 'torch'"
        ) from error
    if backend == "openvino-bf16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise BackendError("backend 'openvino-bf16': this processor has no bfloat16 instructions; use 'openvino'")
    return backend


def backend_version(backend: Backend) -> str:
    """Names whatever a backend's bytes depend on besides torch; empty for torch."""
    if backend == "torch":
        return ""
    import openvino

    return f"{backend} {openvino.get_version()}"


def install(backend: Backend, net: DetailDenoiser, threads: int) -> None:
    """Have a backend run the layers of a network, in place.

    Args:
        backend: which one.
        net: on the CPU, in evaluation mode, its weights final: a backend takes a copy of them.
        threads: calls that may run at a time.
    """
    if backend != "torch":
        for name, layers in list(net.named_modules()):
            # A network that serves two qualities comes here twice.
            if name in _HEAVY and not isinstance(layers, OpenVinoModule):
                parent, _, own_name = name.rpartition(".")
                setattr(net.get_submodule(parent), own_name, OpenVinoModule(layers, threads, backend))


class OpenVinoModule(nn.Module):
    """A module that OpenVINO runs on the CPU, compiled for each shape of its inputs when it first comes.

    Safe to call from several threads; each call takes one thread.

    Args:
        module: takes and gives float32 tensors.
        threads: calls that may run at a time.
        backend: "openvino" computes in float32, "openvino-bf16" in bfloat16.
    """

    def __init__(self, module: nn.Module, threads: int, backend: Backend = "openvino") -> None:
        super().__init__()
        self._backend = backend
        self._module = module
        self._threads = threads
        self._compiled: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._own = threading.local()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """What the module gives for the inputs.

        Raises:
            BackendError: OpenVINO does not compute what torch does.
        """
        shapes = str([tuple(tensor.shape) for tensor in inputs])
        # A request is one thread's: it holds the memory of a call.
        requests: dict[str, Any] = vars(self._own)
        if shapes not in requests:
            with self._lock:
                if shapes not in self._compiled:
                    self._compiled[shapes] = _compiled(self._module, inputs, self._threads, self._backend)
            requests[shapes] = self._compiled[shapes].create_infer_request()
        request = requests[shapes]
        request.infer([tensor.contiguous().numpy() for tensor in inputs], share_inputs=True)
        # The request's own memory is written again by its next call.
        return torch.from_numpy(request.get_output_tensor().data.copy())


def _compiled(module: nn.Module, inputs: Sequence[torch.Tensor], threads: int, backend: Backend) -> Any:
    """The module for inputs of just these shapes.

    The converter's own pieces are called, since `openvino.convert_model` reports each use to its makers.
    """
    from openvino import Core, PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # Tracing is deprecated, and the only form that the converter takes whole.
        examples = tuple(tensor.clone() for tensor in inputs)
        # The decoder lends its memory to the model until that is compiled.
        decoder = TorchScriptPythonDecoder(torch.jit.trace(module, examples, check_trace=False))
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
    for parameter, example in zip(model.get_parameters(), examples, strict=True):
        parameter.set_element_type(Type.f32)
        parameter.set_partial_shape(PartialShape(list(example.shape)))
    model.validate_nodes_and_infer_types()
    options = {
        "NUM_STREAMS": threads,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if backend == "openvino-bf16" else "f32",
        "ENABLE_CPU_PINNING": False,
    }
    compiled = Core().compile_model(model, "CPU", options)
    with torch.inference_mode():
        expected = module(*examples)
    made = torch.from_numpy(compiled([tensor.numpy() for tensor in examples])[0])
    # A conversion that goes wrong is not always an error there.
    if not (made - expected).abs().max() <= _TOLERANCES[backend] * expected.abs().max().clamp(min=1.0):
        raise BackendError(
            f"OpenVINO computes something else than torch for {type(module).__name__}; use backend 'torch'"
        )
    return compiled

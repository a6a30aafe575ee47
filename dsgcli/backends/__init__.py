"""Engines of the networks: plain torch, compiled code, OpenVINO, CUDA graphs.

    choice            --backend -> Backend; what is here, and which is taken
    base              the Protocols; the plain backend; generators steered by numbers
    batches           a network for each batch size that was met
    compiled          torch.compile
    cuda_graph        recorded launches on an NVIDIA GPU
    openvino_engine   OpenVINO on a CPU; openvino_graph writes its graphs

A backend gives functions of tensors that draw and encode what the modules of `models/` do. Nothing
above `portraits` knows which one runs.
"""

"""Only `vidsr` and its subpackages are installed; train/, engines/ and benchmarks/ run from a checkout."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (HERE / "vidsr/__init__.py").read_text()).group(1)
RTX_PLATFORM = "sys_platform == 'linux' and platform_machine == 'x86_64'"

setup(
    name="vidsr",
    version=VERSION,
    description="An anime episode, larger and sharper, with nothing else touched.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",  # PyAV 18.1 asks for it
    package_dir={"": "."},
    packages=find_packages(include=["vidsr", "vidsr.*"]),
    package_data={"vidsr": ["py.typed", "models/weights/*.safetensors", "models/weights/*.md"]},
    install_requires=[
        "torch>=2.6",
        "av>=18.1,<19",
        # The headless twin of opencv-python: the other one needs libGL, which servers and containers lack.
        "opencv-python-headless>=5.0",
        "numpy>=2.0",
        # Animations, profiles and kinds of pictures that OpenCV has not. 11.3 brought AVIF.
        "pillow>=11.3",
        "click>=8.1",
        "click-default-group>=1.2.4",
        "safetensors>=0.4",
        "rich>=13",
        "filelock>=3.12",
        "platformdirs>=4.2",
    ],
    extras_require={
        "tensorrt": ["torch-tensorrt", "tensorrt"],
        "rtx": ["torch-tensorrt-rtx", "tensorrt-rtx"],
        "openvino": ["openvino>=2025.4 ; platform_machine in 'x86_64 AMD64'"],
        # Builds engines for other machines' cards, and needs no GPU.
        "engines": [f"{name} ; {RTX_PLATFORM}" for name in ("tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings")]
        + ["onnx>=1.18", "onnxscript>=0.5"],
        "train": ["accelerate>=1.0", "tensorboard>=2.16", "imagehash>=4.3"]
        + ["skia-python>=138"],
        "bench": ["matplotlib>=3.8"],
        # GPUs of AMD, Intel and Apple, and NVIDIA's that CUDA has left behind.
        "vulkan": ["ncnn>=1.0.20261020"],
        # Architectures other than ours. Brings torchvision, which loads beside one release of PyTorch only.
        "spandrel": ["spandrel>=0.4"],
        "dev": ["ruff", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "build", "torchmetrics"]
        + ["ncnn", "openvino>=2025.4 ; platform_machine in 'x86_64 AMD64'"],
    },
    entry_points={"console_scripts": ["vidsr = vidsr.cli.commands:main"]},
)

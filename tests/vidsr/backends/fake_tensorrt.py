"""TensorRT's Python module as far as vidsr calls it, on a machine without a GPU: it fails as it is told to."""

from enum import Enum
from types import SimpleNamespace

from vidsr.backends.tensorrt.compiler import Package


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING


class FakeTensorRT:
    """building, loading: what it says while it fails at that, {message: severity}, or raises; None: it can build.

    builds: how many were begun.
    """

    ILogger = ILogger
    NetworkDefinitionCreationFlag = SimpleNamespace()

    def __init__(self, building=None, loading=None, version="11.0.1"):
        self.building, self.loading, self.version, self.builds = building, loading, version, 0

    @property
    def package(self):
        return Package("tensorrt", self, self.version)

    def _fails(self, logger, why):
        if isinstance(why, BaseException):
            raise why
        for message, severity in (why or {}).items():
            logger.log(ILogger.Severity[severity], message)
        return why is not None

    def Builder(self, logger):
        def build_serialized_network(definition, config):
            self.builds += 1
            return None if self._fails(logger, self.building) else b"engine"

        return SimpleNamespace(
            create_network=lambda flags: None,
            create_builder_config=lambda: None,
            build_serialized_network=build_serialized_network,
        )

    def OnnxParser(self, definition, logger):
        return SimpleNamespace(parse=lambda model: True)

    def Runtime(self, logger):
        def deserialize_cuda_engine(data):
            self._fails(logger, self.loading)
            return SimpleNamespace(create_execution_context=lambda: None)

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)

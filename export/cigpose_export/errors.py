"""What can go wrong on the way to an artefact; each error is one line with a next step."""

from __future__ import annotations

from cigpose_runtime.errors import CigposeError


class VariantError(CigposeError):
    """No variant has the name asked for."""


class ConfigError(CigposeError):
    """A model config cannot be read or contradicts itself."""


class CheckpointError(CigposeError):
    """A checkpoint file is not what its variant needs."""


class ConfigMismatchError(CheckpointError):
    """A checkpoint says that it was trained as another model than the one in the config."""


class MissingCheckpointError(CheckpointError):
    """A checkpoint has not been fetched or synthesised yet."""

    exit_status = 1


class ExportError(CigposeError):
    """A stage of the export failed, or its result did not pass a check."""

    exit_status = 1


class WorkError(CigposeError):
    """A process that did a part of the work ended without a result."""

    exit_status = 1


class VerifyError(CigposeError):
    """A file does not compute what PyTorch computes."""

    exit_status = 1


class ReleaseError(CigposeError):
    """A model or folder that must not be released."""

    exit_status = 1


class PublishError(CigposeError):
    """A release cannot be published there, or not now."""

    exit_status = 1


class CredentialsError(CigposeError):
    """Credentials that are missing, wrong or insufficient."""


class UsageError(CigposeError):
    """A command was called with arguments that contradict each other."""

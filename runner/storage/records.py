"""What is kept of a deployment on Docker Swarm, in a file beside the journal."""

from attrs import frozen

from runner.reconcile.model import Deployment


@frozen
class Written:
    """What a deployment wrote: the engine must still hold exactly this."""

    at: float
    """Unix time of writing, seconds."""
    gated: str
    """The full name of the service that the gate is about."""
    specs: dict[str, str]
    """Hash of the spec of each service, by its full name."""


@frozen
class Record:
    """What one deployment of ours wrote."""

    deployment: Deployment
    written: Written

"""The record of a deployment on Docker Swarm, kept in a file beside the journal."""

from attrs import frozen

from runner.reconcile.model import Deployment


@frozen
class Written:
    """The services that a deployment wrote. Docker must still have exactly these specs."""

    at: float
    """Unix time of writing, seconds."""
    gated: str
    """The full name of the service that the gate probes."""
    specs: dict[str, str]
    """Hash of the spec of each service, by its full name."""


@frozen
class Record:
    """One deployment by this program, and the services that it wrote."""

    deployment: Deployment
    written: Written

"""Writing a stack and remembering what was written, against the fake Docker engine."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve
from fake_docker import FakeDocker
from fake_swarm import Json

from runner.platforms.swarm.compose import escape
from runner.platforms.swarm.objects import TOKEN_VARIABLE
from runner.platforms.swarm.stack import IMAGE_LABEL, RECORD, Stacks
from runner.reconcile.errors import DeployError, EngineUnreachableError, NotPreparedError
from runner.reconcile.model import Deployment, Release
from runner.storage.records import Record, Written

RELEASE = Release("1.0.0+v3.5.1", "3.5.1", "a" * 64)
FIRST, SECOND = Deployment(RELEASE, "token-1"), Deployment(RELEASE, "token-2")


def document(token: str = FIRST.token, *, image: str = "app:1", **more: Json) -> Json:
    """Make a stack of a gated service and one beside it."""
    app: Json = {"image": image, "environment": {TOKEN_VARIABLE: token}, "deploy": {"labels": {}}}
    side: Json = {"image": "side:1", "deploy": {"labels": {}}}
    return {"services": {"app": app, "side": side, **more}}


def write(stacks: Stacks, deployment: Deployment = FIRST, made: Json | None = None) -> Record:
    return stacks.write("s", made or document(deployment.token), deployment, "s_app")


def by_hand(docker: FakeDocker, name: str, change: Callable[[Json], None]) -> None:
    docker.swarm.change_service(name, change)


def set_image(image: str) -> Callable[[Json], None]:
    def change(spec: Json) -> None:
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = image

    return change


def set_label(spec: Json) -> None:
    spec["Labels"]["by"] = "hand"


def times(number: int, do: Callable[[], None]) -> Callable[[], None]:
    """Do something, the first few times only."""
    left = list(range(number))

    def once() -> None:
        if left:
            left.pop()
            do()

    return once


# Looking -----------------------------------------------------------------------------------------


def test_a_snapshot_has_services_tasks_and_nodes_of_one_stack(
    docker: FakeDocker, stacks: Stacks
) -> None:
    """Services are named, tasks belong to them, and another stack is not in it."""
    write(stacks)
    stacks.write("other", document(), FIRST, "other_app")
    docker.swarm.add_node("second", state="down")
    seen = stacks.read_snapshot("s")
    assert sorted(seen.services) == ["s_app", "s_side"]
    assert seen.services["s_app"].token == FIRST.token
    assert {task.service for task in seen.tasks} == {each.id for each in seen.services.values()}
    assert [task.is_running for task in seen.tasks] == [True, True]
    assert [(node.name, node.is_up) for node in seen.nodes] == [("vm", True), ("second", False)]


def test_no_snapshot_while_docker_is_unreachable(docker: FakeDocker, stacks: Stacks) -> None:
    """A partial snapshot would look like a stack without tasks."""
    write(stacks)
    docker.failing["/tasks"] = "rpc error: the swarm does not have a leader"
    with pytest.raises(EngineUnreachableError, match="does not have a leader"):
        stacks.read_snapshot("s")


# Writing -----------------------------------------------------------------------------------------


def test_what_was_written_is_hashed_service_by_service(docker: FakeDocker, stacks: Stacks) -> None:
    """The hashes are those of the specs in Docker, so a later write is detected."""
    record = write(stacks)
    seen = stacks.read_snapshot("s")
    specs = {name: service.spec for name, service in seen.services.items()}
    assert record == Record(FIRST, Written(record.written.at, "s_app", specs))
    assert set(specs) == {"s_app", "s_side"}
    assert record.written.at <= seen.tasks[0].since
    by_hand(docker, "s_side", set_label)
    after = stacks.read_snapshot("s").services
    assert after["s_app"].spec == specs["s_app"]
    assert after["s_side"].spec != specs["s_side"]


def test_the_file_is_written_with_these_options_and_is_gone_afterwards(
    docker: FakeDocker, stacks: Stacks
) -> None:
    """Images are as the document has them, and services that it doesn't have are removed."""
    write(stacks, made=document(gone={"image": "gone:1"}))
    write(stacks)
    assert sorted(docker.swarm.services) == ["s_app", "s_side"]
    *_, command = docker.commands
    assert (command[:2], command[3:]) == (
        ["stack", "deploy"],
        ["--prune", "--resolve-image=never", "--with-registry-auth", "s"],
    )
    assert not Path(command[2].partition("=")[2]).exists()


def test_a_dollar_arrives_as_it_was(docker: FakeDocker, stacks: Stacks) -> None:
    """The command interpolates what it reads: an escaped document is the plain one again."""
    made = document()
    made["services"]["app"]["environment"]["PRICE"] = "$1 $$ ${X}"
    write(stacks, made=escape(made))
    spec = docker.swarm.services["s_app"]["Spec"]
    assert "PRICE=$1 $$ ${X}" in spec["TaskTemplate"]["ContainerSpec"]["Env"]


def test_a_refusal_by_docker_is_the_release_s_fault(stacks: Stacks) -> None:
    """In Docker's words."""
    made = document()
    made["services"]["app"]["configs"] = [{"source": "missing"}]
    with pytest.raises(DeployError, match='undefined config "missing"') as caught:
        write(stacks, made=made)
    assert not isinstance(caught.value, NotPreparedError)


def test_docker_lost_during_the_write_is_not_a_refusal(docker: FakeDocker, stacks: Stacks) -> None:
    """It is not known what was written."""
    with docker.lost(), pytest.raises(EngineUnreachableError):
        write(stacks)
    write(stacks)
    docker.slow = lambda verb: docker.failing.update({"/services": "gone"} if verb != "x" else {})
    with pytest.raises(EngineUnreachableError, match="gone"):
        write(stacks)


def test_a_write_that_was_overtaken_is_repeated(docker: FakeDocker, stacks: Stacks) -> None:
    """Swarm itself, or someone else, raised the version index between reading and writing."""
    write(stacks)
    docker.swarm.before_write = times(2, lambda: by_hand(docker, "s_app", set_label))
    write(stacks, SECOND)
    assert stacks.read_snapshot("s").services["s_app"].token == SECOND.token
    assert "by" not in docker.swarm.services["s_app"]["Spec"]["Labels"]
    deploys = [command for command in docker.commands if command[:2] == ["stack", "deploy"]]
    assert len(deploys) == 1 + 3


def test_a_write_that_is_overtaken_each_time_is_given_up(
    docker: FakeDocker, stacks: Stacks
) -> None:
    """Another process deploys at the same time: the release is not to blame."""
    write(stacks)
    before = len(docker.commands)
    docker.swarm.before_write = lambda: by_hand(docker, "s_app", set_label)
    with pytest.raises(NotPreparedError, match=r"(?s)same time: .*sequence"):
        write(stacks, SECOND)
    assert len(docker.commands) - before == 3


def test_a_refusal_is_not_repeated(docker: FakeDocker, stacks: Stacks) -> None:
    """It would be the same again."""
    docker.failing["stack deploy"] = "no"
    with pytest.raises(DeployError, match="no"):
        write(stacks)
    assert len(docker.commands) == 1


def test_an_image_that_someone_else_set_is_replaced(docker: FakeDocker, stacks: Stacks) -> None:
    """``docker stack deploy`` keeps the image of a service if its own note says the same."""
    write(stacks)
    by_hand(docker, "s_side", set_image("other:1"))
    write(stacks, SECOND)
    assert stacks.read_snapshot("s").services["s_side"].image == "side:1"
    assert [command[-2:] for command in docker.commands if command[0] == "service"] == [
        [IMAGE_LABEL, "s_side"]
    ]


def test_images_that_are_as_written_are_left_alone(docker: FakeDocker, stacks: Stacks) -> None:
    """Also of a service that was made without the command, which has no note of an image."""
    write(stacks)
    by_hand(docker, "s_side", lambda spec: spec["Labels"].pop(IMAGE_LABEL))
    write(stacks, SECOND)
    assert {command[0] for command in docker.commands} == {"stack"}


def set_token(spec: Json) -> None:
    spec["TaskTemplate"]["ContainerSpec"]["Env"] = [f"{TOKEN_VARIABLE}=of-somebody-else"]


MEANWHILE: dict[str, tuple[Callable[[FakeDocker], None], str]] = {
    "another image": (
        lambda docker: by_hand(docker, "s_app", set_image("other:1")),
        "s_app has the image other:1",
    ),
    "another image beside it": (
        lambda docker: by_hand(docker, "s_side", set_image("other:1")),
        "s_side has the image other:1",
    ),
    "another token": (
        lambda docker: by_hand(docker, "s_app", set_token),
        "s_app is not from this deployment",
    ),
    "no service": (
        lambda docker: docker.swarm.remove_service("s_app"),
        "s_app is not from this deployment",
    ),
    "no side service": (lambda docker: docker.swarm.remove_service("s_side"), "s_side is gone"),
}


@pytest.mark.parametrize(("change", "said"), MEANWHILE.values(), ids=MEANWHILE)
def test_a_change_right_after_the_write_is_noticed(
    docker: FakeDocker, stacks: Stacks, change: Callable[[FakeDocker], None], said: str
) -> None:
    """Otherwise hashes of someone else's specs would be recorded, and gated as ours."""
    written: list[str] = []

    def meanwhile(asked: str) -> None:
        if asked == "stack deploy":
            written.append(asked)
        elif written and asked == "/services":
            written.clear()
            change(docker)

    docker.slow = meanwhile
    with pytest.raises(NotPreparedError, match=said):
        write(stacks)


# Removing ----------------------------------------------------------------------------------------


def test_a_stack_is_removed_with_all_that_it_has(docker: FakeDocker, stacks: Stacks) -> None:
    """Another one stays."""
    write(stacks)
    stacks.write("other", document(), FIRST, "other_app")
    stacks.remove("s")
    assert set(docker.swarm.services) == {"other_app", "other_side"}
    assert {task["ServiceID"] for task in docker.swarm.tasks} == {
        service["ID"] for service in docker.swarm.services.values()
    }


def test_a_stack_that_cannot_be_removed_is_left(docker: FakeDocker, stacks: Stacks) -> None:
    """The next run finds it; housekeeping raises nothing."""
    write(stacks)
    docker.failing["stack rm"] = "Failed to remove some resources from stack: s"
    stacks.remove("s")
    with docker.lost():
        stacks.remove("s")
    assert "s_app" in docker.swarm.services


# Records -----------------------------------------------------------------------------------------

WRITTEN = Written(1.5, "s_app", {"s_app": "f" * 64})


def record(token: str, digest: str = RELEASE.digest) -> Record:
    return Record(Deployment(evolve(RELEASE, digest=digest), token), WRITTEN)


def test_a_stored_record_is_read_again(stacks: Stacks) -> None:
    """Whole and exact; the directory is this user's alone, and holds nothing else."""
    made = record("token-1")
    stacks.store_record(made)
    assert stacks.read_record("token-1") == made
    assert stacks.directory.stat().st_mode & 0o777 == 0o700
    files = [path for path in stacks.directory.rglob("*") if path.is_file()]
    assert files == [stacks.directory / "token-1" / "deployment.json"]
    assert stacks.read_record("token-2") is None


def test_a_record_replaces_the_one_of_the_same_token(stacks: Stacks) -> None:
    """A run that was killed after the write deploys again."""
    stacks.store_record(record("token-1"))
    later = evolve(record("token-1"), written=evolve(WRITTEN, at=2.5))
    stacks.store_record(later)
    assert stacks.read_record("token-1") == later


def test_a_record_that_cannot_be_written_is_no_fault_of_the_release(stacks: Stacks) -> None:
    """The reason is that of the disk."""
    stacks.directory.write_text("in the way")
    with pytest.raises(NotPreparedError, match="can't be recorded: File exists"):
        stacks.store_record(record("token-1"))


@pytest.mark.parametrize("token", ["", "../elsewhere", "a/b", "a b", "."])
def test_a_token_that_is_no_name_has_no_record(stacks: Stacks, token: str) -> None:
    """Tokens are read from Docker, where any client can write one."""
    place = stacks.directory / token
    place.mkdir(parents=True, exist_ok=True)
    made = json.dumps({"deployment": {"release": vars_of(RELEASE), "token": token}, **WROTE})
    (place / RECORD).write_text(made)
    assert stacks.read_record(token) is None


def vars_of(release: Release) -> Json:
    return {"label": release.label, "version": release.version, "digest": release.digest}


WROTE: Json = {"written": {"at": 1.5, "gated": "s_app", "specs": {}}}


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "null", "[" * 100_000, '{"deployment": null}'),
        json.dumps({"deployment": {"release": vars_of(RELEASE), "token": "another"}, **WROTE}),
        json.dumps({"deployment": {"release": vars_of(RELEASE), "token": "token-1"}}),
    ],
    ids=["empty", "half", "list", "null", "deep", "no deployment", "another token", "no specs"],
)
def test_a_damaged_record_is_none(stacks: Stacks, content: str) -> None:
    """The written specs are not known then: no service is taken for ours."""
    stacks.store_record(record("token-1"))
    (stacks.directory / "token-1" / RECORD).write_text(content)
    assert stacks.read_record("token-1") is None


def test_records_are_dropped_but_for_live_deployments_and_kept_releases(stacks: Stacks) -> None:
    """Either is enough; a damaged one goes, and so does what a killed run left."""
    for token, digest in (("live", "1"), ("kept", "2"), ("old", "3"), ("broken", "2")):
        stacks.store_record(record(token, digest))
    (stacks.directory / "broken" / RECORD).write_text("{")
    (stacks.directory / ".new-x").mkdir()
    stacks.prune(frozenset({"live"}), frozenset({"2"}))
    assert sorted(entry.name for entry in stacks.directory.iterdir()) == ["kept", "live"]


def test_pruning_where_nothing_was_ever_recorded(stacks: Stacks) -> None:
    """There is no directory yet, and none is made."""
    stacks.prune(frozenset(), frozenset())
    assert not stacks.directory.exists()

"""Shared by the tests of the launch scripts."""

import shutil

import pytest
from support.cloud import Cloud


class Copied(Cloud):
    """A cloud of which nobody waits for a slice that another test has had made: what `create` and
    `install` left is copied."""

    def __init__(self, here, originals, new_folder):
        super().__init__(here)
        self._originals, self._new_folder = originals, new_folder

    def ready(self, script="tpu_vm", running="ACTIVE SERVICE ", **variables):
        """script, running, variables: what makes the slice, and how it is said to be there."""
        key = script, *sorted(variables.items())
        if key not in self._originals:
            original = self._originals[key] = Cloud(self._new_folder())
            original.set(states=f"ABSENT\n{running}")
            for command in ("create", "install"):
                done = original.run(command, script=script, **variables)
                assert done.returncode == 0, done.stderr
        for name in ("worker-*", "wheels"):
            for folder in self._originals[key].here.glob(name):
                shutil.copytree(folder, self.here / folder.name)
        self.set(states=running)
        self.forget()


@pytest.fixture(scope="session")
def originals():
    """Clouds with a slice, by what made it."""
    return {}


@pytest.fixture
def cloud(tmp_path, tmp_path_factory, originals):
    made = Copied(tmp_path, originals, lambda: tmp_path_factory.mktemp("original"))
    yield made
    made.clean()

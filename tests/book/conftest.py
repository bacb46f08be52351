"""What the tests of the explorers share."""

import pytest

from diffnotes.book.live import widgets as live


@pytest.fixture
def explorer(built: live.Explorer) -> live.Explorer:
    """The file's own explorer `built`, with its first values: quicker than a new one."""
    built.reset()
    return built

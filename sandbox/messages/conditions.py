"""How one provider is, and whom it does not like. Everything can be changed while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

from sandbox.fields import BadInput, Fields
from sandbox.messages.addresses import GONE_TAG, REFUSED_TAG, tag_of
from sandbox.messages.stories import STEPS, STORIES, Story

DOWN = ("", "reset", "unavailable")
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Conditions:
    """As it stands here: well, and content with any credential that is well-formed."""

    down: str = ""  # reset: connections end; unavailable: every answer is 503
    out_of_quota: bool = False
    credentials: tuple[str, ...] | None = None  # the only ones that are good; None: any
    refused: tuple[str, ...] = ()  # patterns of recipients that it does not take
    gone: tuple[str, ...] = ()  # who opted out, bounced before, or is not registered any more
    story: Story | None = None  # what follows for every recipient; None: as their tag says
    stories: dict[str, Story] = field(default_factory=dict)  # by patterns of recipients
    step_seconds: float = 0.1  # between two steps of a story

    def changed(self, fields: Fields) -> Conditions:
        """With what the control endpoint was told; what is not told stays. Raises BadInput."""
        new = replace(
            self,
            down=fields.text("down", self.down, choices=DOWN),
            out_of_quota=fields.flag("out_of_quota", self.out_of_quota),
            credentials=fields.texts("credentials")
            if "credentials" in fields
            else self.credentials,
            refused=_patterns(fields, "refused", self.refused),
            gone=_patterns(fields, "gone", self.gone),
            story=_read_story(fields.items("story")) if "story" in fields else self.story,
            stories=_read_stories(fields, self.stories),
            step_seconds=fields.number("step_seconds", self.step_seconds, most=HOUR),
        )
        fields.end()
        return new

    def refuses(self, recipient: str) -> bool:
        """Whether it does not take this one."""
        return tag_of(recipient) == REFUSED_TAG or _fits(recipient, self.refused)

    def has_lost(self, recipient: str) -> bool:
        """Whether it will not send to this one any more."""
        return tag_of(recipient) == GONE_TAG or _fits(recipient, self.gone)

    def story_of(self, recipient: str) -> Story:
        """What will happen to a message to this one."""
        for pattern, story in self.stories.items():
            if _fits(recipient, (pattern,)):
                return story
        tagged = STORIES.get(tag_of(recipient))
        if tagged is not None and tag_of(recipient):
            return tagged
        return STORIES[""] if self.story is None else self.story


def _fits(recipient: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(recipient.lower(), pattern.lower()) for pattern in patterns)


def _patterns(fields: Fields, name: str, present: tuple[str, ...]) -> tuple[str, ...]:
    return (fields.texts(name) or ()) if name in fields else present


def _read_stories(fields: Fields, present: dict[str, Story]) -> dict[str, Story]:
    if "stories" not in fields:
        return present
    return {
        pattern: _read_story(steps) or ()
        for pattern, steps in (fields.object("stories") or {}).items()
    }


def _read_story(steps: object) -> Story | None:
    if steps is None:
        return None
    if not isinstance(steps, list) or not all(step in STEPS for step in steps):
        raise BadInput(f"a story is a list of {', '.join(STEPS)}")
    return tuple(steps)

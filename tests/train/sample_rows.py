"""Rows that the training tests share."""

from ethos.records import Conversation, Preference, assistant, user


def contrast(asked: str, right: str, wrong: str, *, group: str) -> Preference:
    """One pair of a group."""
    return Preference(
        prompt=[user(asked)],
        chosen=[assistant(right)],
        rejected=[assistant(wrong)],
        group=group,
        kind="crossed",
        source=group,
    )


def crossed(name: str) -> list[Preference]:
    """Rain calls for `stay`, sun for `walk`: no liking for either word can get both right."""
    return [
        contrast(f"{name}: it rains", "stay", "walk", group=name),
        contrast(f"{name}: sun", "walk", "stay", group=name),
    ]


def talk(asked: str, said: str) -> Conversation:
    """One question and its answer."""
    return Conversation(messages=[user(asked), assistant(said)], kind="replay", source=asked)

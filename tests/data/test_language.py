"""A reply in another language than its prompt is found by its script or its function words, and by nothing else."""

import pytest

from ethos.constitution import SHIPPED, read_constitution
from ethos.data.cues import FUNCTION_WORDS as ENGLISH_WORDS
from ethos.data.language import FUNCTION_WORDS, in_another_language, language, scripts

SAID = {
    "English": "You would do well to ask her first, and to tell them what you have in mind for the summer.",
    "German": "Frag sie zuerst und sag ihnen auch, was du für den Sommer vorhast, denn das ist nicht nur deine Sache.",
    "French": "Demande-lui avant les autres et dis ce que tu penses faire pour cet été, car le jardin est à vous.",
    "Spanish": "Pregunta primero a los vecinos y cuenta lo que piensas hacer con el jardín, porque es de los dos.",
    "Italian": "Chiedi prima alla vicina e racconta quello che hai in mente della casa, perché non è solo tua.",
    "Portuguese": "Pergunte primeiro aos vizinhos e conte o que você pensa da casa, porque não é só sua, é dos dois.",
    "Dutch": "Vraag het eerst aan je buren en vertel ook wat je van plan bent met de tuin, want die is niet van jou.",
    "Swedish": "Fråga grannen först och säg vad du har för planer, för det är inte bara din trädgård som det gäller.",
}
FOREIGN = {
    "Cyrillic": "Сначала спроси соседку и расскажи ей, что ты задумал.",
    "Chinese": "先问问邻居，再告诉她你的打算。",
    "Arabic": "اسأل جارتك أولا ثم أخبرها بما تنوي.",
    "Hindi": "पहले पड़ोसी से पूछो और उसे बताओ।",
}
PROMPT = "My neighbour and I share the fence that I want to paint. What would you do in my place?"


@pytest.mark.parametrize("name", SAID)
def test_every_language_is_known_by_its_function_words_and_is_foreign_to_the_others(name: str) -> None:
    assert language(SAID[name]) == name
    for other, text in SAID.items():
        assert in_another_language(text, SAID[name]) == (other != name), other


@pytest.mark.parametrize("name", FOREIGN)
def test_another_script_is_foreign_whole_or_in_part_and_a_word_of_it_is_not(name: str) -> None:
    text = FOREIGN[name]
    assert in_another_language(text, PROMPT)
    assert in_another_language(f"{SAID['English']} {text}", PROMPT)
    assert not in_another_language(f"{SAID['English']} {text[:5]}", PROMPT)
    assert not in_another_language(text, text)


def test_japanese_mixes_its_scripts() -> None:
    assert set(scripts("まず隣の人に聞いてください。カメラ")) == {"CJK"}


@pytest.mark.parametrize("prompt", ["How do I say that in German?", "Translate this for my aunt.", "Is it Latin?"])
def test_who_asks_for_another_language_may_get_it(prompt: str) -> None:
    assert not in_another_language(SAID["German"], f"{PROMPT} {prompt}")
    assert not in_another_language(FOREIGN["Cyrillic"], f"{PROMPT} {prompt}")


@pytest.mark.parametrize("text", ["", "42", "🙂", "print(x)", "Anna, Boris, Clara, Dora, Emil."])
def test_a_text_without_evidence_passes(text: str) -> None:
    assert not in_another_language(text, PROMPT)
    assert not in_another_language(SAID["German"], text)


def test_no_function_word_stands_for_two_languages_only() -> None:
    for name, words in FUNCTION_WORDS.items():
        elsewhere = set().union(*(others for other, others in FUNCTION_WORDS.items() if other != name))
        assert len(words - elsewhere) >= len(words) / 2, name
        assert name == "English" or not words & set(ENGLISH_WORDS.split()), name


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.toml")))
def test_no_shipped_prompt_is_foreign_to_its_constitution(name: str) -> None:
    constitution = read_constitution(name)
    found = [text for text in constitution.prompts() if in_another_language(text, constitution.system_prompt())]
    assert found == []
